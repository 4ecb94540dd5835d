"""How a grid study is reported: its files, its results, its document and its figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.trained.cells import read_trained, trained_files
from mobileone_core.reporting.trained.description import setting_text
from mobileone_core.reporting.trained.document import trained_document
from mobileone_core.reporting.trained.result import TrainedResult, analyse
from mobileone_core.study.grid import GridPlan


@dataclass(frozen=True)
class TrainedKind:
    """Reports of grid studies, whose replicates are seeds."""

    version: int = 4

    setting = staticmethod(setting_text)
    record_files = staticmethod(trained_files)
    read_record = staticmethod(read_trained)
    analyse = staticmethod(analyse)
    document = staticmethod(trained_document)

    def suffix(self, plan: GridPlan) -> str:
        """Return variant, data and the plan's id."""
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def figures(self, result: TrainedResult) -> Mapping[str, Drawing]:
        """Draw the metric by level or over cost, and training curves where they are recorded."""
        from mobileone_core.reporting.figures.curves import draw_curves
        from mobileone_core.reporting.figures.levels import draw

        return {"figure": draw(result), **({"curves": draw_curves(result)} if result.curves else {})}
