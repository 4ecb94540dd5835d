"""Trials as plain data, whichever storage they are read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

VOID = "void"  # attribute of a study: numbers of the trials whose results were lost


@dataclass(frozen=True)
class TrialView:
    """One trial: Optuna's number, state and times, and the attributes that the queue and the attempt have written."""

    number: int
    state: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    value: float | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def is_attempt(self) -> bool:
        """Whether it is an attempt at a cell or a comparison: neither empty nor pruned."""
        return "cell" in self.attributes and self.state != "PRUNED"

    @property
    def key(self) -> str:
        """Key of the cell."""
        return str(self.attributes["cell"])

    @property
    def is_comparison(self) -> bool:
        """Whether it measures a comparison; otherwise it trains a cell."""
        return self.attributes.get("role") == "comparison"

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells that must be complete first."""
        return tuple(self.attributes.get("needs", ()))

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of its runs in the record: one per cell, one per level and form of a comparison; none at first."""
        # Earlier versions wrote one run.
        return tuple(self.attributes.get("runs") or filter(None, [self.attributes.get("run")]))
