"""Where a study keeps its queue, its record and its checkpoints."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """A runs directory, the queue (an Optuna storage URL) and the record (an MLflow tracking URI)."""

    runs: Path
    queue: str
    tracking: str

    @classmethod
    def at(cls, runs: Path, queue: str = "", tracking: str = "") -> "Workspace":
        """SQLite files in the runs directory, unless another queue or record is named."""
        runs = runs.expanduser().absolute()
        return cls(runs, queue or f"sqlite:///{runs / 'optuna.db'}", tracking or f"sqlite:///{runs / 'mlflow.db'}")

    @property
    def artifacts(self) -> Path:
        return self.runs / "artifacts"

    def checkpoints(self, key: str) -> Path:
        """The directory of one cell's last.ckpt."""
        return self.runs / "checkpoints" / key
