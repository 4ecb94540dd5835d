"""Runs that belong to no study, each kind in its experiment: evaluations of checkpoints, and latencies on devices."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileone_core.errors import require
from mobileone_core.files import sha256
from mobileone_core.latency.device import STATISTICS, DeviceMeasurement, ExportedModel
from mobileone_core.study.database import database_error, planning
from mobileone_core.study.environment import git_revision, versions
from mobileone_core.study.process import Owner
from mobileone_core.study.record.access import RecordReader, open_existing
from mobileone_core.study.record.tables import PLAN, RecordedRun, included
from mobileone_core.study.rows import DeviceRow
from mobileone_core.study.workspace import Workspace, one_line, redacted

if TYPE_CHECKING:
    from mobileone_core.study.record.record import Record, RunWriter

OWNER = "owner"  # the tag that tells which process writes a run
EXPERIMENT = "device_latency"
METRIC = "latency/{}_ms"
OF_MODEL = ("variant", "form", "precision", "input")  # tags that may be missing
OF_MEASUREMENT = ("model_hash", "device", "os", "compute_units", "protocol", "date")  # tags that every run has
RAW, INDEX = "raw_sha256", "raw_measurement"  # tags: which measurement of which file


@contextlib.contextmanager
def standalone_run(
    workspace: Workspace, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator["RunWriter"]:
    """Write a run of a reserved experiment, with its tags from the first moment; nested params as model.k and so on.

    It ends FINISHED, KILLED by an interrupt, or FAILED with its error. The record and the experiment are created if
    they are missing; runs that dead processes of this machine left open are ended. Raises InputError if the record
    cannot be used.
    """
    from mlflow.entities import Param

    from mobileone_core.study.record.record import RECORD_ERRORS, RunWriter, flat

    try:
        record, number = _opened(workspace, experiment)
        owner = json.dumps(vars(Owner.here()))
        started = record.client.create_run(number, tags={"study": experiment, OWNER: owner, **tags}, run_name=name)
        run = RunWriter(record.client, started.info.run_id)
        try:
            record.client.log_batch(run.run_id, params=[Param(key, str(value)) for key, value in flat(params)])
            yield run
        except KeyboardInterrupt:
            record.end(run.run_id, "KILLED")
            raise
        except BaseException as error:
            record.end(run.run_id, "FAILED", one_line(error))
            raise
        record.end(run.run_id, "FINISHED")
    except RECORD_ERRORS as error:
        raise database_error("record", workspace.tracking, error) from error


def _opened(workspace: Workspace, experiment: str) -> tuple["Record", str]:
    """The record and the id of the experiment; one process at a time creates them."""
    from mobileone_core.study.record.record import Record, create_record

    with planning(workspace.runs, workspace.tracking):
        create_record(workspace)
        record = Record(workspace.tracking)
        is_study = any(name.startswith(PLAN) for name in record.experiment_tags(experiment))
        require(not is_study, "study", experiment, f"the record {redacted(record.tracking)} has a study of this name")
        number = str(record.create_experiment(experiment, workspace.artifacts).experiment_id)
    for run in record.runs(experiment, "attributes.status = 'RUNNING'"):
        owner = Owner.read(json.loads(run.data.tags.get(OWNER, "null")))
        if owner is not None and owner.is_gone:
            record.end(run.info.run_id, "KILLED")
    return record, number


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
        text = self.text
        if self.path is not None:
            if self.path.is_file():
                return sha256(self.path)
            files = sorted(item for item in self.path.rglob("*") if item.is_file())
            text = "".join(f"{path.relative_to(self.path).as_posix()} {sha256(path)}\n" for path in files)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, run: "RunWriter") -> None:
        """Save the source under raw/ and the texts as artifacts of a run."""
        if self.path is None:
            run.save_text(f"raw/{self.name}", self.text)
        else:
            run.client.log_artifact(run.run_id, str(self.path), "raw")
        for name, text in self.texts.items():
            run.save_text(name, text)


def record_devices(
    workspace: Workspace,
    measured: Sequence[tuple[ExportedModel, DeviceMeasurement]],
    source: MeasurementSource,
    *,
    again: bool = False,
) -> list[str]:
    """Record measurements of one source, a run each, skipping recorded ones unless again; return the runs' ids."""
    sha256 = source.sha256
    recorded = {} if again else recorded_measurements(workspace.tracking, sha256)
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
    with open_existing(tracking) as record:
        runs = list(record.finished(EXPERIMENT)) if record else []
    return {int(run.tags[INDEX]): run.run_id for run in runs if run.tags.get(RAW) == sha256}


def read_devices(record: RecordReader, excluded: dict[str, str]) -> tuple[DeviceRow, ...]:
    """All finished measurements on devices, by model, device, protocol and date.

    Ids of those that reports leave out are added to excluded.
    """
    rows = map(_row, included(record.finished(EXPERIMENT), excluded))
    return tuple(sorted(rows, key=lambda row: (row.model, row.device, row.protocol, row.date, row.run_id)))


def _tags(model: ExportedModel, item: DeviceMeasurement) -> dict[str, str]:
    tags = {name: getattr(model, name) for name in ("model", *OF_MODEL)}
    tags |= {name: getattr(item, name) for name in ("app", "thermal", "battery")}
    tags["placement"] = json.dumps(dict(item.placement), sort_keys=True) if item.placement else ""
    tags = {name: text for name, text in tags.items() if text}
    tags |= {name: getattr(item, name) for name in OF_MEASUREMENT}
    return tags | {"n": str(item.n), "host": Owner.here().host, "git": git_revision(), **versions()}


def _metrics(item: DeviceMeasurement) -> dict[str, float]:
    load = {} if item.load_ms is None else {"latency/load_ms": item.load_ms}
    times = {METRIC.format(name): value for name, value in item.statistics.items()}
    placed = {f"placement/{unit}": float(count) for unit, count in item.placement.items()}
    return {**times, **load, **placed, "latency/n": float(item.n)}


def _row(run: RecordedRun) -> DeviceRow:
    tags, texts = run.tags, ("model", "source", *OF_MEASUREMENT)
    missing = [name for name in (*texts, "n") if name not in tags]
    require(not missing, "run", run.run_id, f"a measurement with the tags {', '.join(missing)}")
    times = {name: run.metrics[METRIC.format(name)] for name in STATISTICS if METRIC.format(name) in run.metrics}
    fields = {name: tags[name] for name in texts} | {name: tags.get(name, "") for name in OF_MODEL}
    return DeviceRow(**fields, statistics=times, n=int(tags["n"]), run_id=run.run_id)
