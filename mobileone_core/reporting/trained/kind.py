"""The report of a grid study: its files, its results, its document and its figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.reporting.document import Document
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.trained.cells import read_trained, trained_files
from mobileone_core.reporting.trained.description import setting_text
from mobileone_core.reporting.trained.document import trained_document
from mobileone_core.reporting.trained.result import TrainedResult, analyse
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.rows import StudyRecord


@dataclass(frozen=True)
class TrainedKind:
    """Studies whose cells are trained; their replicates are seeds."""

    version: int = 4

    def suffix(self, plan: GridPlan) -> str:
        """Variant, data and the plan's id."""
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def setting(self, plan: GridPlan) -> str:
        """What was trained on what."""
        return setting_text(plan)

    def record_files(self, plan: GridPlan, record: StudyRecord) -> dict[str, str]:
        """cells.csv, curves.csv and comparison.csv."""
        return trained_files(plan, record)

    def read_record(self, plan: GridPlan, directory: Path) -> StudyRecord:
        """Read these files."""
        return read_trained(plan, directory)

    def analyse(self, plan: GridPlan, record: StudyRecord) -> TrainedResult:
        """Compute the statistics."""
        return analyse(plan, record)

    def document(self, result: TrainedResult) -> Document:
        """Levels against the baseline, effects, curves, costs, recipe, environment and runs."""
        return trained_document(result)

    def figures(self, result: TrainedResult) -> Mapping[str, Drawing]:
        """The metric by level, or over cost; training curves where they are recorded."""
        from mobileone_core.reporting.figures.curves import draw_curves
        from mobileone_core.reporting.figures.levels import draw

        return {"figure": draw(result), **({"curves": draw_curves(result)} if result.curves else {})}
