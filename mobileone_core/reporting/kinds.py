"""The kinds of report, one class per kind of plan, and the registry that finds the one for a plan."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mobileone_core.reporting.document import Document
from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.search.kind import SearchKind
from mobileone_core.reporting.trained.kind import TrainedKind
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class ReportKind(Protocol):
    """How plans of one kind are reported. plan is of that kind; result is what `analyse` returned."""

    @property
    def version(self) -> int:
        """Raise it when the same record is to give another report."""

    def suffix(self, plan: Any) -> str:  # noqa: ANN401
        """Return what follows the study's name in the directory of a setting that is not the default."""

    def setting(self, plan: Any) -> str:  # noqa: ANN401
        """Describe what was trained or measured, in a line."""

    def record_files(self, plan: Any, record: StudyRecord) -> dict[str, str]:  # noqa: ANN401
        """Return the CSV files that hold the record without its problems, cells.csv first; an empty text is no file."""

    def read_record(self, plan: Any, directory: Path) -> StudyRecord:  # noqa: ANN401
        """Read the record back from these files. Raises FileNotFoundError, KeyError, ValueError."""

    def analyse(self, plan: Any, record: StudyRecord) -> Any:  # noqa: ANN401
        """Put plan and record together: what is measured, missing, wrong, and what it says."""

    def document(self, result: Any) -> Document:  # noqa: ANN401
        """Return the report: page, terminal text, table.csv and table.tex are made of it.

        A further table whose `file` is set is written to FILE.csv.
        """

    def figures(self, result: Any) -> "Mapping[str, Callable[[], Figure]]":  # noqa: ANN401
        """Return what draws each figure, by the stem of its files; the document's main figure is among them."""


class Kind(Protocol):
    """How plans of one kind are reported. plan is always of that kind."""

    @property
    def version(self) -> int:
        """Raised when a report of the same record is to look different."""

    def suffix(self, plan: Any) -> str:  # noqa: ANN401
        """What follows the study's name in the directory of a setting that is not its own."""

    def setting(self, plan: Any) -> str:  # noqa: ANN401
        """What was trained or measured, in a line."""

    def texts(self, plan: Any, record: StudyRecord) -> dict[str, str]:  # noqa: ANN401
        """The files that hold the record but for its problems, cells.csv first; an empty text is no file."""

    def read(self, plan: Any, directory: Path) -> StudyRecord:  # noqa: ANN401
        """The record that these files hold. Raises FileNotFoundError, KeyError, ValueError."""

    def wanted(self, plan: Any, texts: Mapping[str, str]) -> Collection[str]:  # noqa: ANN401
        """The files that a rendered report of this record has besides those."""

    def contents(self, plan: Any, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:  # noqa: ANN401
        """Tables, figures, and README.md last; empty content is no file."""

    def verdict(self, plan: Any, record: StudyRecord) -> str:  # noqa: ANN401
        """What was found, in sentences."""

    def terminal(self, plan: Any, record: StudyRecord) -> str:  # noqa: ANN401
        """Question, tables, verdict, and what is missing or wrong, as plain text."""


KINDS: Mapping[type, Kind | ReportKind] = {Plan: TrainedKind(), MeasuredPlan: MeasuredKind(), SearchPlan: SearchKind()}


def kind_of(plan: AnyPlan) -> Any:  # noqa: ANN401
    """How this plan is reported."""
    return KINDS[type(plan)]
