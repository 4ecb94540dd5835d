"""A trial as any storage tells it, and whether this version can read what wrote it. No optuna, no mlflow here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

VOID = "void"  # attribute of a study: numbers of trials whose results were lost


@dataclass(frozen=True)
class TrialView:
    """A trial as any storage tells it: state is Optuna's, attributes are ours."""

    number: int
    state: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    value: float | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def key(self) -> str:
        """The cell that was attempted."""
        return str(self.attributes["cell"])

    @property
    def is_comparison(self) -> bool:
        return self.attributes.get("role") == "comparison"

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells to be complete first."""
        return tuple(self.attributes.get("needs", ()))

    @property
    def runs(self) -> tuple[str, ...]:
        """The attempt's runs in the record: one of a cell, one a level and form of a comparison; none at first."""
        of = self.attributes
        return tuple(of.get("runs") or filter(None, [of.get("run")]))  # earlier versions noted one
