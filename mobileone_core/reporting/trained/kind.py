"""The report of a grid study: its files, its results, its document and its figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.reporting.document import Document
from mobileone_core.reporting.trained.cells import read_trained, trained_files
from mobileone_core.reporting.trained.description import setting_text
from mobileone_core.reporting.trained.document import trained_document
from mobileone_core.reporting.trained.result import TrainedResult, analyse
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn


@dataclass(frozen=True)
class TrainedKind:
    """Studies whose cells are trained; their replicates are seeds."""

    version: int = 4

    def suffix(self, plan: Plan) -> str:
        """Variant, data and the plan's id."""
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def setting(self, plan: Plan) -> str:
        """What was trained on what."""
        return setting_text(plan)

    def record_files(self, plan: Plan, record: StudyRecord) -> dict[str, str]:
        """cells.csv, curves.csv and comparison.csv."""
        return trained_files(plan, record)

    def read_record(self, plan: Plan, directory: Path) -> StudyRecord:
        """Read these files."""
        return read_trained(plan, directory)

    def analyse(self, plan: Plan, record: StudyRecord) -> TrainedResult:
        """Compute the statistics."""
        return analyse(plan, record)

    def document(self, result: TrainedResult) -> Document:
        """Levels against the baseline, effects, curves, costs, recipe, environment and runs."""
        return trained_document(result)

    def figures(self, result: TrainedResult) -> "Mapping[str, Callable[[], Drawn]]":
        """The metric by level, or over cost; training curves where they are recorded."""
        from mobileone_core.reporting.figures.curves import curves_figure
        from mobileone_core.reporting.figures.levels import levels_figure

        curves = {"curves": lambda: curves_figure(result)} if result.curves else {}
        return {"figure": lambda: levels_figure(result), **curves}
