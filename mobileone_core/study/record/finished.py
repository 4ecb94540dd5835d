"""A finished run of a cell, as whoever carries its network elsewhere reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.errors import InputError, require
from mobileone_core.study.record.record import RECORD_ERRORS, WEIGHTS, Record
from mobileone_core.study.workspace import redacted
from mobileone_core.training.cell import CellSpec


@dataclass(frozen=True)
class FinishedRun:
    """The cell, where its final weights lie, its metrics (accuracies are fractions), its variant's name."""

    spec: CellSpec
    weights: Path
    metrics: Mapping[str, float]
    variant: str


def read_run(tracking: str, run_id: str, directory: Path) -> FinishedRun:
    """A run by its id; a server's files are fetched into a directory. Raises InputError where it cannot be had."""
    record = Record(tracking)
    try:
        run = record.client.get_run(run_id)
    except RECORD_ERRORS as error:
        raise InputError.of(
            "run", run_id, f"a run of the record {redacted(tracking)}; mobileone status shows"
        ) from error
    require(run.info.status == "FINISHED", "run", f"{run_id} ({run.info.status})", "a FINISHED run")
    require("cell" in run.data.tags, "run", run_id, "a run of a cell, which has weights")
    spec = CellSpec.from_json(record.file(run_id, "cell.json", directory).read_text(encoding="utf-8"))
    weights = record.file(run_id, WEIGHTS, directory)
    return FinishedRun(spec, weights, dict(run.data.metrics), run.data.tags.get("variant", ""))
