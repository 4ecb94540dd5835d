"""How a measured study is reported. No torch here."""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.reporting.figures.style import drawing
from mobileone_core.reporting.measured.backbones import BackbonesView
from mobileone_core.reporting.measured.cells import measured_texts, read_measured_cells
from mobileone_core.reporting.measured.correlation import CorrelationView
from mobileone_core.reporting.measured.page import measured_page, measured_terminal
from mobileone_core.reporting.measured.result import MeasuredResult, analyse_measured
from mobileone_core.reporting.measured.training import TrainingView
from mobileone_core.reporting.measured.view import LevelsView, View
from mobileone_core.reporting.measured.words import setting
from mobileone_core.reporting.render.tables import table_tex
from mobileone_core.reporting.trained.words import MISSING, Table
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import StudyRecord

VIEWS: Mapping[str, View] = {
    "levels": LevelsView(),
    "correlation": CorrelationView(),
    "backbones": BackbonesView(),
    "training": TrainingView(),
}


@dataclass(frozen=True)
class MeasuredKind:
    """Rounds are its replicates."""

    version: int = 1

    def suffix(self, plan: MeasuredPlan) -> str:
        return plan.id

    def setting(self, plan: MeasuredPlan) -> str:
        return setting(MeasuredResult(plan, (), ()))

    def texts(self, plan: MeasuredPlan, record: StudyRecord) -> dict[str, str]:
        return measured_texts(plan, record)

    def read(self, plan: MeasuredPlan, directory: Path) -> StudyRecord:
        return read_measured_cells(plan, directory)

    def wanted(self, plan: MeasuredPlan, texts: Mapping[str, str]) -> Collection[str]:  # noqa: ARG002
        return ("table.csv", "table.tex", "figure.png", "figure.svg")

    def contents(self, plan: MeasuredPlan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:
        result, view = analyse_measured(plan, record), VIEWS[plan.study.view]
        table = view.table(result)
        made = drawing(lambda: view.figure(result))
        return {
            "table.csv": measured_csv(table),
            "table.tex": table_tex(table, f"{plan.study.question} {setting(result)}; {plan.study.source}."),
            "figure.png": made.png,
            "figure.svg": made.svg,
            "README.md": measured_page(result, view, fingerprint),
        }

    def verdict(self, plan: MeasuredPlan, record: StudyRecord) -> str:
        return " ".join(VIEWS[plan.study.view].sentences(analyse_measured(plan, record)))

    def terminal(self, plan: MeasuredPlan, record: StudyRecord) -> str:
        return measured_terminal(analyse_measured(plan, record), VIEWS[plan.study.view])


def measured_csv(table: Table) -> str:
    """The page's table; what is missing stays empty. Full precision is in cells.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{title}, {note}" if note else title for title, note in table.columns])
    writer.writerows([["" if cell == MISSING else cell for cell in row] for row in table.rows])
    return text.getvalue()
