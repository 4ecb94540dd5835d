"""The reports of training to its caller, and its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1: optimizer steps so far, its end in milliseconds since 1970, and its metrics."""

    epoch: int
    step: int
    time_ms: int
    metrics: Mapping[str, float]


class TrainingStopped(Exception):  # noqa: N818
    """Raised by an observer to end a cell early; nothing is written after it."""


class TrainingFailed(RuntimeError):  # noqa: N818
    """The cell itself failed: a loss that is not finite, with epoch and step in the message."""


class Observer:
    """Receives the progress of a cell; any method may raise TrainingStopped. By itself it does nothing."""

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Called once before training if a checkpoint exists, with all epochs it holds."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Called after each epoch's validation, before that epoch's checkpoint is written."""

    def batch_finished(self, epochs: float = 0.0, images: int = 0) -> None:
        """Called after each training batch, with the epochs and training images done so far; must be cheap."""


class NullObserver(Observer):
    """An observer that ignores everything."""


@dataclass(frozen=True)
class CellResult:
    """Final metrics by name (test/top1, val/top1, time/train_seconds and so on) and the file of the final weights.

    card: what an application needs to know of the weights, as JSON (model_card.py). raw_weights: the file of the last
    weights where the final ones are averaged. pictures: files that show what the test got wrong.
    """

    metrics: Mapping[str, float]
    weights: Path
    card: Mapping[str, Any] = field(default_factory=dict)
    raw_weights: Path | None = None
    pictures: tuple[Path, ...] = ()
