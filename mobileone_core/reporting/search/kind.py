"""How a search is reported. No torch here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.reporting.figures.style import drawing
from mobileone_core.reporting.measured.kind import measured_csv
from mobileone_core.reporting.render.tables import table_tex
from mobileone_core.reporting.search.cells import read_search_cells, search_texts
from mobileone_core.reporting.search.page import search_page, search_terminal
from mobileone_core.reporting.search.result import analyse_search
from mobileone_core.reporting.search.words import sentences, setting, table_of_search
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan


@dataclass(frozen=True)
class SearchKind:
    """Networks are its rows; a search that is not over shows all that it has."""

    version: int = 1

    def suffix(self, plan: SearchPlan) -> str:
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def setting(self, plan: SearchPlan) -> str:
        return setting(plan)

    def texts(self, plan: SearchPlan, record: StudyRecord) -> dict[str, str]:
        return search_texts(plan, record)

    def read(self, plan: SearchPlan, directory: Path) -> StudyRecord:
        return read_search_cells(plan, directory)

    def wanted(self, plan: SearchPlan, texts: Mapping[str, str]) -> Collection[str]:  # noqa: ARG002
        return ("table.csv", "table.tex", "figure.png", "figure.svg")

    def contents(self, plan: SearchPlan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:
        from mobileone_core.reporting.search.figure import search_figure

        result = analyse_search(plan, record)
        table = table_of_search(result)
        made = drawing(lambda: search_figure(result))
        return {
            "table.csv": measured_csv(table),
            "table.tex": table_tex(table, f"{plan.study.question} {setting(plan)}; {plan.study.source}."),
            "figure.png": made.png,
            "figure.svg": made.svg,
            "README.md": search_page(result, fingerprint),
        }

    def verdict(self, plan: SearchPlan, record: StudyRecord) -> str:
        return " ".join(sentences(analyse_search(plan, record)))

    def terminal(self, plan: SearchPlan, record: StudyRecord) -> str:
        return search_terminal(analyse_search(plan, record))
