"""What every kind of plan has to say for its report: one class a kind, found by the plan's type."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.search.kind import SearchKind
from mobileone_core.reporting.trained.kind import TrainedKind
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan


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


KINDS: Mapping[type, Kind] = {Plan: TrainedKind(), MeasuredPlan: MeasuredKind(), SearchPlan: SearchKind()}


def kind_of(plan: AnyPlan) -> Kind:
    """How this plan is reported."""
    return KINDS[type(plan)]
