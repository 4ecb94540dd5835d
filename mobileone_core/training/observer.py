"""What training tells whoever started it, and what it gives back. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class EpochRecord:
    """One epoch (counted from 1): optimizer steps so far, milliseconds since 1970 at its end, metrics."""

    epoch: int
    step: int
    time_ms: int
    metrics: Mapping[str, float]


class TrainingStopped(Exception):  # noqa: N818
    """Raised by an observer to end a cell early; nothing is written after it."""


class TrainingFailed(RuntimeError):  # noqa: N818
    """The cell itself went wrong: a loss that is not finite, with epoch and step in the message."""


class Observer(Protocol):
    """Whoever wants to know: any method may raise TrainingStopped."""

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Called once before training where a checkpoint was found, with all epochs it holds."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Called after each epoch's validation, before that epoch's checkpoint is written."""

    def batch_finished(self) -> None:
        """Called after each training batch; cheap."""


class NullObserver:
    """An observer that wants to know nothing."""

    def resumed(self, history: Sequence[EpochRecord]) -> None: ...
    def epoch_finished(self, record: EpochRecord) -> None: ...
    def batch_finished(self) -> None: ...


@dataclass(frozen=True)
class CellResult:
    """Final metrics (test/top1, val/top1, time/train_seconds and so on) and the file of the final weights."""

    metrics: Mapping[str, float]
    weights: Path
