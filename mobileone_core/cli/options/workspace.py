"""Where the workspace lies, and the options of the commands that need no more: `mobileone status`, `report`, `ui`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mobileone_core.errors import require
from mobileone_core.files import expanded
from mobileone_core.study.workspace import Workspace, runs_directory, workspace_directory

Directory = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


class CommandOptions:
    """The options of one command."""

    def check(self) -> None:
        """Raise InputError for what can be refused before anything heavy is imported."""


@dataclass(frozen=True)
class RecordOptions:
    """Where the record lies."""

    runs: Directory = None  # Queue, record and checkpoints; runs/ of this workspace if not given.
    tracking: str = ""  # MLflow tracking URI; mlflow.db in the runs directory if not given.

    @property
    def workspace(self) -> Workspace:
        """The workspace with this record, and with the queue and the checkpoints if the options name them.

        Raises InputError if runs is a file.
        """
        named = vars(self)
        runs = self.runs or runs_directory()
        require(not runs.is_file(), "runs", str(runs), "a directory")
        return Workspace.at(runs, named.get("queue", ""), self.tracking, named.get("checkpoints"))


@dataclass(frozen=True)
class WorkspaceOptions(RecordOptions):
    """Where queue, record and checkpoints lie."""

    queue: str = ""  # Optuna storage URL; optuna.db in the runs directory if not given.
    checkpoints: Directory = None
    """Checkpoints, if not in the runs directory; if machines share them, a cell resumes on any of them."""


def reports_directory(requested: Path | None = None) -> Path:
    """The requested directory, else that of complete reports of unchanged studies, recorded in runs_directory()."""
    return expanded(requested or workspace_directory() / "reports").absolute()


@dataclass(frozen=True)
class Check(CommandOptions):
    """Read every image of a data set; print classes, splits, modes, sizes, what is left out and what is unreadable."""

    action: Annotated[tyro.conf.Positional[Literal["check"]], tyro.conf.arg(metavar="check")]
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|DIR")]  # Data set, or a folder of images.
    data_root: Directory = None  # Directory that holds a data set by name.


Studies = tyro.conf.Positional[tuple[str, ...]]


@dataclass(frozen=True)
class Status(CommandOptions):
    """Show every cell of every study, or of those named."""

    studies: Studies = ()  # Names of studies; all if none is given.
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    repair: bool = False  # Repair what dead processes left behind; without it nothing is written.


@dataclass(frozen=True)
class Report(CommandOptions):
    """Write tables, figures and pages from the record, or from reports/ if there is no record."""

    studies: Studies = ()  # Names of studies; all if none is given.
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    reports: Directory = None  # Reports of default studies; reports/ of this workspace if not given.
    merge: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR")] = ()
    """Reports, or directories of reports, whose cells are joined with those of the record, each once."""


@dataclass(frozen=True)
class Compare(CommandOptions):
    """Print paired differences, B - A, of the cells that two settings or two records share."""

    one: tyro.conf.Positional[str]  # A: a report's name, such as branch_count-fashion_mnist, or its path.
    other: tyro.conf.Positional[str]  # B: likewise; a path may lead to another machine's report.
    metric: str = ""  # Metric of the record; the studies' if not given.
    storage: RecordOptions = field(default_factory=RecordOptions)
    reports: Directory = None  # Reports, for settings that are not in the record; reports/ if not given.


@dataclass(frozen=True)
class Exclude(CommandOptions):
    """Leave a run out of all reports, such as a trial evaluation; the record keeps it."""

    run: tyro.conf.Positional[str]  # Id of the run, or its beginning.
    storage: RecordOptions = field(default_factory=RecordOptions)
    undo: bool = False  # Show the run in reports again.


@dataclass(frozen=True)
class Forget(CommandOptions):
    """Remove what waits or has failed of a setting of a study, after two questions; finished runs stay."""

    setting: tyro.conf.Positional[str]  # The setting's name, as `mobileone status` shows it above its cells.
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    yes: bool = False  # Ask nothing, for scripts.


@dataclass(frozen=True)
class Clean(CommandOptions):
    """Show checkpoints of complete cells, half-written files and unused compiled code, and remove them if confirmed."""

    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    abandoned: bool = False  # Also checkpoints, in the runs directory, of cells that the queue does not have.
    dry_run: bool = False  # Show what would be removed, and remove nothing.
    yes: bool = False  # Ask nothing, for scripts.


@dataclass(frozen=True)
class Ui(CommandOptions):
    """Serve the record with MLflow's UI on this machine alone."""

    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    port: int = 5000  # First port to try.
