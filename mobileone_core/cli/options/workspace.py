"""Options that several commands share: where the workspace lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mobileone_core.cli.paths import runs_directory
from mobileone_core.study.workspace import Workspace

Directory = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


class CommandOptions:
    """The options of one command."""

    def check(self) -> None:
        """Raise InputError for what can be refused before anything heavy is imported."""


@dataclass(frozen=True)
class RecordOptions:
    """Where the record lies."""

    runs: Directory = None
    """Queue, record and checkpoints; runs/ of this workspace if not given."""
    tracking: str = ""
    """MLflow tracking URI; mlflow.db in the runs directory if not given."""

    @property
    def workspace(self) -> Workspace:
        """The workspace with this record."""
        return Workspace.at(self.runs or runs_directory(), tracking=self.tracking)


@dataclass(frozen=True)
class WorkspaceOptions(RecordOptions):
    """Where the queue and the record lie."""

    queue: str = ""
    """Optuna storage URL; optuna.db in the runs directory if not given."""

    @property
    def workspace(self) -> Workspace:
        """The workspace with this queue and record."""
        return Workspace.at(self.runs or runs_directory(), self.queue, self.tracking)
