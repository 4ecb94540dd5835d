"""Where a study keeps its queue, its record and its checkpoints."""

import re
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.errors import require

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # those of MLflow


def shown(url: str) -> str:
    """A URL as messages name it: without the password."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&]\w*password=)[^&]*", r"\1***", url)


def is_server(tracking: str) -> bool:
    """Whether a tracking URI names no database but a server, which keeps the artifacts of all machines itself."""
    return re.split("[:+]", tracking)[0] not in DATABASES


@dataclass(frozen=True)
class Workspace:
    """A runs directory, the queue (an Optuna storage URL) and the record (an MLflow tracking URI)."""

    runs: Path
    queue: str
    tracking: str

    @classmethod
    def at(cls, runs: Path, queue: str = "", tracking: str = "") -> "Workspace":
        """SQLite files in the runs directory, unless another queue or record is named.

        Raises InputError for a directory that the URL of such a file cannot name.
        """
        runs = runs.expanduser().absolute()
        allowed = "a path without '?', unless queue and tracking are given"
        require("?" not in str(runs) or bool(queue and tracking), "runs", str(runs), allowed)
        return cls(runs, queue or f"sqlite:///{runs / 'optuna.db'}", tracking or f"sqlite:///{runs / 'mlflow.db'}")

    @property
    def artifacts(self) -> Path:
        return self.runs / "artifacts"

    def checkpoints(self, queue: str, key: str) -> Path:
        """The directory of the last.ckpt of one queue's cell: studies that share a cell do not share its attempts."""
        return self.runs / "checkpoints" / queue / key
