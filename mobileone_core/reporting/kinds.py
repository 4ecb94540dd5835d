"""The kinds of report, one class per kind of plan, and the registry that finds the one for a plan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mobileone_core.reporting.document import Document
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.search.kind import SearchKind
from mobileone_core.reporting.trained.kind import TrainedKind
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan


class ReportKind(Protocol):
    """How plans of one kind are reported. plan is of that kind; result is what `analyse` returned."""

    @property
    def version(self) -> int:
        """Raise it when the same record is to give another report."""

    def suffix(self, plan: Any) -> str:
        """Return what follows the study's name in report_name, for a plan that is not the study unchanged."""

    def setting(self, plan: Any) -> str:
        """Describe what was trained or measured, in a line."""

    def record_files(self, plan: Any, record: StudyRecord) -> dict[str, str]:
        """Return the CSV files that hold the record without its problems, cells.csv first; an empty text is no file."""

    def read_record(self, plan: Any, directory: Path) -> StudyRecord:
        """Read the record back from these files. Raises FileNotFoundError, KeyError, ValueError."""

    def analyse(self, plan: Any, record: StudyRecord) -> Any:
        """Put plan and record together: what is measured, missing, wrong, and what it says."""

    def document(self, result: Any) -> Document:
        """Return the report: page, terminal text, table.csv and table.tex are made of it.

        A further table whose `file` is set is written to FILE.csv.
        """

    def figures(self, result: Any) -> Mapping[str, Drawing]:
        """Draw every figure of the document, by the stem of its files."""


KINDS: Mapping[str, ReportKind] = {
    GridPlan.kind: TrainedKind(),
    MeasuredPlan.kind: MeasuredKind(),
    SearchPlan.kind: SearchKind(),
}


def kind_of(plan: Plan) -> ReportKind:
    """Return how a plan is reported, by its kind."""
    return KINDS[plan.kind]
