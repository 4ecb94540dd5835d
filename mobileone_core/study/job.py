"""What the workers of a run do, as data, and how they say what went wrong. No optuna, no mlflow, no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobileone_core.errors import InputError, require
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.recipe import Teacher

OURS = (InputError, TrainingFailed)
TRAIN = "mobileone_core.training.run:train_cell"
COMPARE = "mobileone_core.benchmark.subjects.forms:compare_forms"
LATENCY = "mobileone_core.benchmark.subjects.latency:measure_latency"
STEPS = "mobileone_core.benchmark.subjects.step:measure_steps"


@dataclass(frozen=True)
class QueueTiming:
    """Seconds: between heartbeats; without one until a trial counts as dead; from claim to owner; for a lock."""

    heartbeat: int = 60
    grace: int = 180
    claim: float = 10.0
    busy: float = 120.0


@dataclass(frozen=True)
class Engine:
    """How the queue is kept, and which functions train a cell and measure a comparison, as module:function.

    preload is the one whose module is imported before workers are forked.
    """

    timing: QueueTiming = field(default_factory=QueueTiming)
    train: str = TRAIN
    compare: str = COMPARE
    latency: str = LATENCY
    steps: str = STEPS
    preload: str = TRAIN


@dataclass(frozen=True)
class Setup:
    """Where a run works and how: processes at once, the device, the data, and the files of teachers' weights."""

    workspace: Workspace
    workers: int = 1
    execution: Execution = field(default_factory=Execution)
    data_root: Path | None = None
    teachers: Mapping[Teacher, Path] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "an integer of 1 or more")


@dataclass(frozen=True)
class Job:
    """Work on what waits in one queue: the keys named, or all."""

    setup: Setup
    queue: str
    cells: frozenset[str] | None = None

    @property
    def workspace(self) -> Workspace:
        return self.setup.workspace


def one_line(error: BaseException) -> str:
    """An error's first cause in one line; its kind is named unless the words are ours."""
    while error.__cause__ is not None and not isinstance(error, OURS):
        error = error.__cause__
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, OURS) else f"{type(error).__name__}: {text}"
