"""The record of latencies on devices: one flat run a measurement in the experiment "device_latency"."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import STATISTICS, DeviceMeasurement, ExportedModel
from mobileone_core.study.database import database_exists, sqlite_path
from mobileone_core.study.environment import git_revision, versions
from mobileone_core.study.process import Owner
from mobileone_core.study.record.record import FINISHED, Record
from mobileone_core.study.record.standalone import OneRun, one_run
from mobileone_core.study.rows import DeviceRow
from mobileone_core.study.workspace import Workspace

EXPERIMENT = "device_latency"
METRIC = "latency/{}_ms"
RAW, INDEX = "raw_sha256", "raw_measurement"  # tags: which measurement of which file


@dataclass(frozen=True)
class Source:
    """Where measurements come from: "imported" or "measured"; the file or directory that is kept as it is, or a text
    to keep under a name; texts: more to keep by name."""

    kind: str
    path: Path | None = None
    name: str = ""
    text: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the file, of all files of a directory with their names, or of the text."""
        if self.path is None:
            return hashlib.sha256(self.text.encode()).hexdigest()
        if self.path.is_file():
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        digest = hashlib.sha256()
        for path in sorted(item for item in self.path.rglob("*") if item.is_file()):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()

    def keep(self, run: OneRun) -> None:
        """As artifacts of a run: what came in, under raw/, and the texts."""
        if self.path is None:
            run.text(f"raw/{self.name}", self.text)
        else:
            run.file(self.path, f"raw/{self.path.name}" if self.path.is_dir() else "raw")
        for name, text in self.texts.items():
            run.text(name, text)


def record_devices(
    workspace: Workspace,
    measured: Sequence[tuple[ExportedModel, DeviceMeasurement]],
    source: Source,
    *,
    again: bool = False,
) -> list[str]:
    """Record measurements of one source, a run each, and return the runs' ids.

    Those of them that are in the record already, where an earlier import was cut off, are not written again; InputError
    where all are, unless again says so.
    """
    sha256 = source.sha256
    there = {} if again else recorded(workspace.tracking, sha256)
    if len(there) >= len(measured):
        run_ids = ", ".join(there.values())
        raise InputError(f"file: it is in the record already, as run {run_ids}; --again records it once more")
    written = []
    for number, (model, item) in enumerate(measured):
        if number in there:
            continue
        tags = {**_tags(model, item), "source": source.kind, RAW: sha256, INDEX: str(number)}
        name = f"{model.model} {item.device} {item.protocol}"
        with one_run(workspace, EXPERIMENT, name, tags, {"model": model.model, "n": item.n}) as run:
            source.keep(run)
            if item.samples:
                run.text("samples.json", json.dumps(list(item.samples)) + "\n")
            run.log(_metrics(item))
        written.append(run.run_id)
    return written


def recorded(tracking: str, sha256: str) -> dict[int, str]:
    """The FINISHED runs of a raw file: measurement by number, from 0, and run id."""
    if _is_missing(tracking):
        return {}
    runs = Record(tracking).runs(EXPERIMENT, f"{FINISHED} AND tags.{RAW} = '{sha256}'")
    return {int(run.data.tags[INDEX]): run.info.run_id for run in runs}


def read_devices(tracking: str) -> tuple[DeviceRow, ...]:
    """All finished measurements on devices, in an order of their own; none where there is no record."""
    if _is_missing(tracking):
        return ()
    rows = map(_row, Record(tracking).runs(EXPERIMENT, FINISHED))
    return tuple(sorted(rows, key=lambda row: (row.model, row.device, row.protocol, row.date, row.run_id)))


def _is_missing(tracking: str) -> bool:
    path = sqlite_path(tracking)
    return path is not None and not database_exists(path)


def _tags(model: ExportedModel, item: DeviceMeasurement) -> dict[str, str]:
    known = {
        "model": model.model,
        "variant": model.variant,
        "form": model.form,
        "precision": model.precision,
        "input": model.input,
        "app": item.app,
        "thermal": item.thermal,
        "battery": item.battery,
        "placement": json.dumps(dict(item.placement), sort_keys=True) if item.placement else "",
    }
    return {
        **{name: text for name, text in known.items() if text},
        "model_hash": item.model_hash,
        "device": item.device,
        "os": item.os,
        "compute_units": item.compute_units,
        "protocol": item.protocol,
        "date": item.date,
        "n": str(item.n),
        "host": Owner.here().host,
        "git": git_revision(),
        **versions(),
    }


def _metrics(item: DeviceMeasurement) -> dict[str, float]:
    load = {} if item.load_ms is None else {"latency/load_ms": item.load_ms}
    times = {METRIC.format(name): value for name, value in item.statistics.items()}
    placed = {f"placement/{unit}": float(count) for unit, count in item.placement.items()}
    return {**times, **load, **placed, "latency/n": float(item.n)}


def _row(run: Run) -> DeviceRow:
    tags, metrics = run.data.tags, run.data.metrics
    texts = ("model", "model_hash", "device", "os", "compute_units", "protocol", "source", "date")
    missing = [name for name in (*texts, "n") if name not in tags]
    require(not missing, "run", run.info.run_id, f"a measurement with the tags {', '.join(missing)}")
    more: dict[str, Any] = {name: tags.get(name, "") for name in ("variant", "form", "precision", "input")}
    found = {name: metrics[METRIC.format(name)] for name in STATISTICS if METRIC.format(name) in metrics}
    return DeviceRow(
        **{name: tags[name] for name in texts}, statistics=found, n=int(tags["n"]), run_id=run.info.run_id, **more
    )
