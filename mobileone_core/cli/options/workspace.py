"""Where the commands of `mobileone` find queue and record. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mobileone_core.cli.paths import runs_home
from mobileone_core.study.workspace import Workspace

Directory = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class Places:
    """Where the queue and the record lie."""

    runs: Directory = None
    """Queue, record and checkpoints; runs/ of this workspace where not given."""
    queue: str = ""
    """Optuna storage URL; optuna.db in the runs directory where not given."""
    tracking: str = ""
    """MLflow tracking URI; mlflow.db in the runs directory where not given."""

    @property
    def workspace(self) -> Workspace:
        return Workspace.at(self.runs or runs_home(), self.queue, self.tracking)
