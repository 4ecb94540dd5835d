"""What the workers of a run do, as data, and how they say what went wrong. No optuna, no mlflow, no torch here."""

from dataclasses import dataclass, field
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed

OURS = (InputError, TrainingFailed)
TRAIN = "mobileone_core.training.run:train_cell"


@dataclass(frozen=True)
class QueueTiming:
    """Seconds: between heartbeats; without one until a trial counts as dead; from claim to owner; for a lock."""

    heartbeat: int = 60
    grace: int = 180
    claim: float = 10.0
    busy: float = 120.0


@dataclass(frozen=True)
class Engine:
    """How the queue is kept, and which function trains a cell, as module:function."""

    timing: QueueTiming = field(default_factory=QueueTiming)
    train: str = TRAIN


@dataclass(frozen=True)
class Job:
    """Train the cells that wait in one queue of a workspace: those named, or all."""

    workspace: Workspace
    queue: str
    cells: frozenset[str] | None = None
    execution: Execution = field(default_factory=Execution)
    data_root: Path | None = None
    engine: Engine = field(default_factory=Engine)


def one_line(error: BaseException) -> str:
    """An error's first cause in one line; its kind is named unless the words are ours."""
    while error.__cause__ is not None and not isinstance(error, OURS):
        error = error.__cause__
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, OURS) else f"{type(error).__name__}: {text}"
