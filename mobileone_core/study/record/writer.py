"""Writes one run of the record."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from mobileone_core.benchmark.spec import EntryResult
from mobileone_core.study.plan import PlannedCell, PlannedComparison
from mobileone_core.training.cell import SCHEMA
from mobileone_core.training.observer import EpochRecord

BATCH = 900  # metrics in one call; MLflow takes 1000


@dataclass(frozen=True)
class RunWriter:
    """Writes metrics and artifacts of one run."""

    client: MlflowClient
    run_id: str

    def log(self, metrics: Mapping[str, float], time_ms: int | None = None, step: int = 0) -> None:
        """Log metrics at a step, as of a time in ms since 1970; by default as of now."""
        time_ms = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        self._log([Metric(name, value, time_ms, step) for name, value in metrics.items()])

    def log_epochs(self, history: Sequence[EpochRecord]) -> None:
        """Log epochs as of the times at which they ended; the step of a curve is the epoch."""
        self._log(
            [
                Metric(name, value, record.time_ms, record.epoch)
                for record in history
                for name, value in record.metrics.items()
            ]
        )

    def log_result(self, cell: PlannedCell, metrics: Mapping[str, float], last: EpochRecord, weights: Path) -> None:
        """Log the final metrics that differ from the last epoch's, cell.json and the weights."""
        final = {name: value for name, value in metrics.items() if last.metrics.get(name) != value}
        self.log(final, last.time_ms, last.epoch)
        spec = {"schema": SCHEMA, **dataclasses.asdict(cell.spec)}
        self.save_text("cell.json", json.dumps(spec, indent=2) + "\n")
        self.client.log_artifact(self.run_id, str(weights))

    def log_entry(self, comparison: PlannedComparison, result: EntryResult) -> None:
        """Log the metrics of an entry, all its samples (samples.json) and the whole comparison (comparison.json)."""
        self.log(result.metrics)
        self.save_text("samples.json", json.dumps(result.samples) + "\n")
        self.save_text("comparison.json", comparison.spec.to_json() + "\n")

    def save_text(self, name: str, text: str) -> None:
        """Save a text as an artifact."""
        self.client.log_text(self.run_id, text, name)

    def save_file(self, path: Path, directory: str) -> None:
        """Save a file, or a directory with everything in it, as an artifact."""
        save = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        save(self.run_id, str(path), directory)

    def _log(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.run_id, metrics[start : start + BATCH])
