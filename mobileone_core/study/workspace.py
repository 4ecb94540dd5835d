"""Locations of a study's queue, record and checkpoints."""

import re
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.errors import require

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # supported by MLflow


def redacted(url: str) -> str:
    """A URL for messages, its password replaced by ***."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&]\w*password=)[^&]*", r"\1***", url)


def is_server(tracking: str) -> bool:
    """Whether a tracking URI names an MLflow server, which stores the artifacts of all machines, not a database."""
    return re.split("[:+]", tracking)[0] not in DATABASES


@dataclass(frozen=True)
class Workspace:
    """A runs directory, the queue's Optuna storage URL and the record's MLflow tracking URI."""

    runs: Path
    queue: str
    tracking: str

    @classmethod
    def at(cls, runs: Path, queue: str = "", tracking: str = "") -> "Workspace":
        """Workspace of a runs directory; its SQLite files unless another queue or record is given.

        Raises InputError if the URL of an SQLite file cannot contain the directory's path.
        """
        runs = runs.expanduser().absolute()
        allowed = "a path without '?', unless queue and tracking are given"
        require("?" not in str(runs) or bool(queue and tracking), "runs", str(runs), allowed)
        return cls(runs, queue or f"sqlite:///{runs / 'optuna.db'}", tracking or f"sqlite:///{runs / 'mlflow.db'}")

    @property
    def artifacts(self) -> Path:
        """Directory of MLflow's artifacts, unless a server stores them."""
        return self.runs / "artifacts"

    def checkpoints(self, queue: str, key: str) -> Path:
        """Directory of a cell's last.ckpt, one per queue: queues that share a cell do not share its attempts."""
        return self.runs / "checkpoints" / queue / key
