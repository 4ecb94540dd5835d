"""Latencies on devices in the record: one flat run per measurement in the experiment "device_latency"."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import STATISTICS, DeviceMeasurement, ExportedModel
from mobileone_core.study.environment import git_revision, versions
from mobileone_core.study.process import Owner
from mobileone_core.study.record.access import open_record, record_exists
from mobileone_core.study.record.tables import RecordedRun
from mobileone_core.study.rows import DeviceRow
from mobileone_core.study.workspace import Workspace

if TYPE_CHECKING:
    from mobileone_core.study.record.writer import RunWriter

EXPERIMENT = "device_latency"
METRIC = "latency/{}_ms"
RAW, INDEX = "raw_sha256", "raw_measurement"  # tags: which measurement of which file


@dataclass(frozen=True)
class MeasurementSource:
    """Where measurements come from.

    kind: "imported" or "measured". Either path, a file or directory saved as it is, or text, saved under name. texts:
    further texts to save, by name.
    """

    kind: str
    path: Path | None = None
    name: str = ""
    text: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, of all files of the directory with their names, or of the text."""
        if self.path is None:
            return hashlib.sha256(self.text.encode()).hexdigest()
        if self.path.is_file():
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        digest = hashlib.sha256()
        for path in sorted(item for item in self.path.rglob("*") if item.is_file()):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()

    def save(self, run: "RunWriter") -> None:
        """Save the source under raw/ and the texts as artifacts of a run."""
        if self.path is None:
            run.save_text(f"raw/{self.name}", self.text)
        else:
            run.save_file(self.path, f"raw/{self.path.name}" if self.path.is_dir() else "raw")
        for name, text in self.texts.items():
            run.save_text(name, text)


def record_devices(
    workspace: Workspace,
    measured: Sequence[tuple[ExportedModel, DeviceMeasurement]],
    source: MeasurementSource,
    *,
    again: bool = False,
) -> list[str]:
    """Record measurements of one source, one run each, and return the runs' ids.

    Measurements that an interrupted import recorded already are skipped, unless again is set. Raises InputError if all
    of them are recorded already.
    """
    from mobileone_core.study.record.standalone import standalone_run

    sha256 = source.sha256
    recorded = {} if again else recorded_measurements(workspace.tracking, sha256)
    if len(recorded) >= len(measured):
        run_ids = ", ".join(recorded.values())
        raise InputError(f"file: it is in the record already, as run {run_ids}; --again records it once more")
    written = []
    for number, (model, item) in enumerate(measured):
        if number in recorded:
            continue
        tags = {**_tags(model, item), "source": source.kind, RAW: sha256, INDEX: str(number)}
        name = f"{model.model} {item.device} {item.protocol}"
        with standalone_run(workspace, EXPERIMENT, name, tags, {"model": model.model, "n": item.n}) as run:
            source.save(run)
            if item.samples:
                run.save_text("samples.json", json.dumps(list(item.samples)) + "\n")
            run.log(_metrics(item))
        written.append(run.run_id)
    return written


def recorded_measurements(tracking: str, sha256: str) -> dict[int, str]:
    """Run ids of a raw file's recorded measurements, by their index in the file."""
    runs = [run for run in _finished(tracking) if run.tags.get(RAW) == sha256]
    return {int(run.tags[INDEX]): run.run_id for run in runs}


def read_devices(tracking: str) -> tuple[DeviceRow, ...]:
    """All finished measurements on devices, by model, device, protocol and date; none if there is no record."""
    rows = map(_row, _finished(tracking))
    return tuple(sorted(rows, key=lambda row: (row.model, row.device, row.protocol, row.date, row.run_id)))


def _finished(tracking: str) -> list[RecordedRun]:
    if not record_exists(tracking):
        return []
    with open_record(tracking) as record:
        return list(record.finished(EXPERIMENT))


def _tags(model: ExportedModel, item: DeviceMeasurement) -> dict[str, str]:
    optional = {
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
        **{name: text for name, text in optional.items() if text},
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


def _row(run: RecordedRun) -> DeviceRow:
    tags, texts = run.tags, ("model", "model_hash", "device", "os", "compute_units", "protocol", "source", "date")
    missing = [name for name in (*texts, "n") if name not in tags]
    require(not missing, "run", run.run_id, f"a measurement with the tags {', '.join(missing)}")
    times = {name: run.metrics[METRIC.format(name)] for name in STATISTICS if METRIC.format(name) in run.metrics}
    optional = {name: tags.get(name, "") for name in ("variant", "form", "precision", "input")}
    return DeviceRow(
        **{name: tags[name] for name in texts}, **optional, statistics=times, n=int(tags["n"]), run_id=run.run_id
    )
