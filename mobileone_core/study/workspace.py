"""Settings of a run as data: where queue, record and checkpoints lie, and how workers and their queue behave."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobileone_core.errors import InputError, require
from mobileone_core.files import expanded
from mobileone_core.texts import visible
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed

SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # supported by MLflow


def redacted(url: str) -> str:
    """A URL for messages, its password replaced by ***."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&]\w*password=)[^&]*", r"\1***", url)


def is_server(tracking: str) -> bool:
    """Whether a tracking URI names an MLflow server, which stores the artifacts of all machines, not a database."""
    return re.split("[:+]", tracking)[0] not in DATABASES


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file; "%" and "?" mean something in a URL and are escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def workspace_directory() -> Path:
    """The directory with studies/, runs/ and reports/: the checkout of this package, else the current directory."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "studies").is_dir() else Path.cwd()


def runs_directory() -> Path:
    """The default directory of queue, record and checkpoints."""
    return workspace_directory() / "runs"


@dataclass(frozen=True)
class Workspace:
    """A runs directory, the queue's Optuna storage URL, the record's MLflow tracking URI, and where checkpoints lie."""

    runs: Path
    queue: str
    tracking: str
    checkpoint_root: Path

    @classmethod
    def at(cls, runs: Path, queue: str = "", tracking: str = "", checkpoints: Path | None = None) -> "Workspace":
        """Workspace of a runs directory; what is not given lies in it: queue and record as SQLite files."""
        runs = expanded(runs).absolute()
        root = expanded(checkpoints or runs / "checkpoints").absolute()
        return cls(runs, queue or sqlite_url(runs / "optuna.db"), tracking or sqlite_url(runs / "mlflow.db"), root)

    @property
    def artifacts(self) -> Path:
        """Directory of MLflow's artifacts, unless a server stores them."""
        return self.runs / "artifacts"

    def checkpoints(self, queue: str, key: str) -> Path:
        """Directory of a cell's last.ckpt, one per queue: queues that share a cell do not share its attempts."""
        return self.checkpoint_root / queue / key


PLAIN_ERRORS = (InputError, TrainingFailed)  # their messages need no class name
TRAIN = "mobileone_core.training.run:train_cell"
MEASURE = "mobileone_core.benchmark.measure:measure"


@dataclass(frozen=True)
class QueueTiming:
    """Intervals of the queue, in seconds."""

    heartbeat: int = 60  # between two heartbeats
    grace: int = 180  # without heartbeat, until a trial counts as dead
    claim: float = 10.0  # from the claim, until a process must have named itself
    busy: float = 120.0  # to wait for a locked database


@dataclass(frozen=True)
class Engine:
    """The queue's timing, and the functions, as "module:function", that train a cell and measure a comparison."""

    timing: QueueTiming = field(default_factory=QueueTiming)
    train: str = TRAIN
    measure: str = MEASURE
    preload: str = TRAIN  # its module is imported before workers are forked


@dataclass(frozen=True)
class Setup:
    """Where and how a run works: workspace, worker processes, execution, data directory, weight files."""

    workspace: Workspace
    workers: int = 1  # processes
    execution: Execution = field(default_factory=Execution)
    data_root: Path | None = None  # directory of the data set
    weights: Mapping[str, Path] = field(default_factory=dict)  # files of teachers and initial weights, by digest
    engine: Engine = field(default_factory=Engine)
    declared: Mapping[str, str] = field(default_factory=dict)  # tags of the experiment: who declares the study
    command_start: float = 0.0  # in seconds since 1970; 0 if the command's first step is not timed

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "an integer of 1 or more")


@dataclass(frozen=True)
class Job:
    """The cells of one queue that a run works on: those with the given keys, or all."""

    setup: Setup
    queue: str
    cells: frozenset[str] | None = None

    @property
    def workspace(self) -> Workspace:
        """The workspace of the setup."""
        return self.setup.workspace


def one_line(error: BaseException) -> str:
    """Message of an error's first cause in one line, with the name of its class unless the message is our own."""
    while error.__cause__ is not None and not isinstance(error, PLAIN_ERRORS):
        error = error.__cause__
    silent = "out of memory" if isinstance(error, MemoryError) else "no message"
    text = visible(" ".join(str(error).split()))[:400] or silent
    return text if isinstance(error, PLAIN_ERRORS) else f"{type(error).__name__}: {text}"
