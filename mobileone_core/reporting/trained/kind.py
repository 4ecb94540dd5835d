"""How a study whose cells are trained is reported. No torch here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.render.plain import trained_terminal
from mobileone_core.reporting.render.tables import table_csv, table_tex
from mobileone_core.reporting.trained.cells import read_trained, trained_texts
from mobileone_core.reporting.trained.effects import effects_csv
from mobileone_core.reporting.trained.page import page_text, setting
from mobileone_core.reporting.trained.result import Result, analyse
from mobileone_core.reporting.trained.words import table_of, verdict
from mobileone_core.study.effects import asked_effects
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord

RENDERED = ("table.csv", "table.tex", "figure.png", "figure.svg")
CURVES = ("curves.png", "curves.svg")
EFFECTS = ("effects.csv",)


@dataclass(frozen=True)
class TrainedKind:
    """Seeds are its replicates."""

    version: int = 3

    def suffix(self, plan: Plan) -> str:
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def setting(self, plan: Plan) -> str:
        return setting(plan)

    def texts(self, plan: Plan, record: StudyRecord) -> dict[str, str]:
        return trained_texts(plan, record)

    def read(self, plan: Plan, directory: Path) -> StudyRecord:
        return read_trained(plan, directory)

    def wanted(self, plan: Plan, texts: Mapping[str, str]) -> Collection[str]:
        return [*RENDERED, *(CURVES if texts["curves.csv"] else ()), *(EFFECTS if asked_effects(plan.study) else ())]

    def contents(self, plan: Plan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:
        result = analyse(plan, record)
        caption = f"{plan.study.question} {setting(plan)}; {plan.study.source}."
        contents: dict[str, str | bytes] = {
            "table.csv": table_csv(result),
            "table.tex": table_tex(table_of(result), caption),
            "effects.csv": effects_csv(result),
        }
        return {
            **contents,
            **_figures(result, trained_texts(plan, record)["curves.csv"]),
            "README.md": page_text(result, fingerprint),
        }

    def verdict(self, plan: Plan, record: StudyRecord) -> str:
        return verdict(analyse(plan, record))

    def terminal(self, plan: Plan, record: StudyRecord) -> str:
        return trained_terminal(plan, record)


def _figures(result: Result, curves_csv: str) -> dict[str, bytes]:
    """Every figure's files; empty where there is no such figure."""
    from mobileone_core.reporting.figures.curves import draw_curves
    from mobileone_core.reporting.figures.levels import draw

    main = draw(result)
    curves = draw_curves(result) if curves_csv else Drawing(b"", b"")
    return {"figure.png": main.png, "figure.svg": main.svg, "curves.png": curves.png, "curves.svg": curves.svg}
