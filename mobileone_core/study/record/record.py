"""The record: one MLflow experiment a study, one flat run an attempt at a cell, one a level and form of a comparison.

MLflow is imported here, and in the half that reads.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mobileone_core.benchmark.spec import EntryResult
from mobileone_core.errors import InputError
from mobileone_core.study.database import (
    LOCK_TIMEOUT,
    check_schema,
    database_error,
    database_exists,
    has_table,
    require_database,
    sqlite_path,
)
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.job import one_line
from mobileone_core.study.plan import Plan, PlannedCell, PlannedComparison, Queued
from mobileone_core.study.workspace import Workspace, is_server, redacted
from mobileone_core.training.cell import SCHEMA
from mobileone_core.training.observer import EpochRecord

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

BATCH = 900  # metrics in one call; MLflow takes 1000
PAGE = 1000
PLAN = "plan."
WEIGHTS = "weights.safetensors"
COUNT = "comparison.runs"  # tag: how many runs the comparison has
RECORD_ERRORS = (MlflowException,)
Step = ParamSpec("Step")
Result = TypeVar("Result")
FINISHED = "attributes.status = 'FINISHED'"
FIRST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds


@dataclass(frozen=True)
class OpenRun:
    """A run that says RUNNING, and the number of the trial it belongs to."""

    run_id: str
    trial: int


def _patiently(step: Callable[Step, Result], /, *arguments: Step.args, **options: Step.kwargs) -> Result:
    """Take a step again while another process, stopped perhaps, holds the database; MLflow waits 20 s each time."""
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return step(*arguments, **options)
        except MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > end:
                raise


@contextlib.contextmanager
def _first_contact() -> Iterator[None]:
    """Tell within seconds that no server answers; later calls have MLflow's own patience, minutes."""
    before = {name: os.environ.get(name) for name in FIRST}
    os.environ.update(FIRST)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name)
            os.environ.update({} if text is None else {name: text})


class Patient:
    """A client whose every call waits for a locked database."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(_patiently, getattr(self._client, name))


class Record:
    """The runs of a tracking server or database; InputError where it cannot be used."""

    def __init__(self, tracking: str) -> None:
        path = sqlite_path(tracking)
        if path is not None:
            if not database_exists(path):
                raise InputError(f"{path}: no record here yet")
            require_database(path)
        elif not is_server(tracking) and not has_table("record", tracking, "experiments"):
            raise InputError(f"{redacted(tracking)}: no record here yet")
        try:
            client = _patiently(MlflowClient, tracking)
            self.client = cast("MlflowClient", Patient(client))
            with _first_contact():
                self.client.get_experiment_by_name("Default")
        except MlflowException as error:
            if "failed with exception" in str(error):
                raise InputError(f"record {redacted(tracking)}: no MLflow server answers") from error
            raise database_error("record", tracking, error) from error
        self.tracking = tracking

    def experiment(self, study: str) -> Experiment | None:
        """A study's experiment; InputError where a newer schema wrote it."""
        found = self.client.get_experiment_by_name(study)
        if found is not None:
            check_schema(found.tags.get("schema"), f"record {redacted(self.tracking)}, study {study}")
        return found

    def keep_plan(self, plan: Plan, artifacts: Path) -> None:
        """Record a plan among the tags of its study's experiment, which is created where it is missing."""
        found = self.opened(plan.study.name, artifacts)
        if found.tags.get(PLAN + plan.id) != plan.to_json():
            self.client.set_experiment_tag(found.experiment_id, PLAN + plan.id, plan.to_json())

    def opened(self, name: str, artifacts: Path) -> Experiment:
        """An experiment to write to: created where it is missing, brought back where it was deleted."""
        found = self.experiment(name)
        if found is None:
            location = None if is_server(self.tracking) else (artifacts / name).as_uri()
            return self.client.get_experiment(
                self.client.create_experiment(name, location, tags={"schema": str(SCHEMA)})
            )
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found

    def start(self, cell: PlannedCell, tags: Mapping[str, str]) -> "RunWriter":
        """A new run of a cell, with its tags from the first moment."""
        writer = self._started(cell, cell.factors, {"data": cell.spec.data.name, **tags})
        params = [Param(name, str(value)) for name, value in _flat(dataclasses.asdict(cell.spec))]
        self.client.log_batch(writer.run_id, params=params)
        return writer

    def start_arm(self, comparison: PlannedComparison, result: EntryResult, tags: Mapping[str, str]) -> "RunWriter":
        """A new run of one level of a comparison, or of one form of it."""
        form = {"form": result.form} if result.form else {}
        said = {"comparison": comparison.key, "level": result.label, "data": comparison.data, **form, **result.tags}
        if result.unmeasured:
            said["unmeasured"] = result.unmeasured
        return self._started(comparison, {**result.factors, **form}, {**tags, **said})

    def _started(self, queued: Queued, factors: Mapping[str, Level], tags: Mapping[str, str]) -> "RunWriter":
        experiment = self.experiment(queued.study)
        if experiment is None:
            raise InputError.of(
                "study", queued.study, f"it is not in the record {redacted(self.tracking)}; plan it first"
            )
        named = {
            "study": queued.study,
            "cell": queued.key,
            "seed": str(queued.seed),
            "variant": queued.variant,
            "factors": json.dumps(dict(factors)),
            **{f"factor.{name}": str(level) for name, level in factors.items()},
        }
        words = [*(f"{name}={level_text(level)}" for name, level in factors.items()), f"seed={queued.seed}"]
        run = self.client.create_run(experiment.experiment_id, tags={**named, **tags}, run_name=" ".join(words))
        return RunWriter(self.client, run.info.run_id)

    def file(self, run_id: str, name: str, directory: Path) -> Path:
        """One of a run's artifacts: where it lies, or fetched from a server into a directory.

        Raises InputError where it cannot be had.
        """
        try:
            place = urlsplit(self.client.get_run(run_id).info.artifact_uri)
            if place.scheme == "file":
                path = Path(url2pathname(place.path)) / name
            else:
                directory.mkdir(parents=True, exist_ok=True)
                path = Path(self.client.download_artifacts(run_id, name, str(directory)))
        except RECORD_ERRORS as error:
            raise InputError(f"{name} of run {run_id}: {one_line(error)}") from error
        if not path.is_file():
            raise InputError(f"{name} of run {run_id}: {path} is not there; machines share files by an MLflow server")
        return path

    def end(self, run_id: str, status: str, error: str = "") -> None:
        """Set a run FINISHED, FAILED (with its error) or KILLED."""
        if error:
            self.client.set_tag(run_id, "error", error)
        self.client.set_terminated(run_id, status)

    def is_active(self, run_id: str) -> bool:
        """Whether a run is in the record and was not deleted there."""
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def open_runs(self, study: str, queue: str) -> list[OpenRun]:
        """Runs of a study's queue that say RUNNING."""
        runs = self.runs(study, f"attributes.status = 'RUNNING' AND tags.queue = '{queue}'")
        return [OpenRun(run.info.run_id, int(run.data.tags.get("trial", -1))) for run in runs]

    def finished_runs(self, study: str, queue: str) -> set[str]:
        """Ids of the FINISHED runs of a study's queue."""
        return {run.info.run_id for run in self.runs(study, f"{FINISHED} AND tags.queue = '{queue}'")}

    def runs(self, study: str, condition: str) -> Iterator[Run]:
        """Runs of a study that meet a condition in MLflow's search language, page by page."""
        experiment = self.experiment(study)
        token = None
        while experiment is not None:
            page = self.client.search_runs(
                [experiment.experiment_id], condition, ViewType.ACTIVE_ONLY, PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


@dataclass(frozen=True)
class RunWriter:
    """Writes one run: a batch of metrics an epoch, the final metrics and files at the end."""

    client: MlflowClient
    run_id: str

    def epochs(self, history: Sequence[EpochRecord]) -> None:
        """Log epochs with the times at which they ended; the step of a curve is the epoch."""
        metrics = [
            Metric(name, value, record.time_ms, record.epoch)
            for record in history
            for name, value in record.metrics.items()
        ]
        self._log(metrics)

    def result(self, cell: PlannedCell, metrics: Mapping[str, float], last: EpochRecord, weights: Path) -> None:
        """Log the final metrics that the last epoch's curve does not hold already, cell.json and the weights."""
        final = {name: value for name, value in metrics.items() if last.metrics.get(name) != value}
        self._log([Metric(name, value, last.time_ms, last.epoch) for name, value in final.items()])
        spec = {"schema": SCHEMA, **dataclasses.asdict(cell.spec)}
        self.client.log_text(self.run_id, json.dumps(spec, indent=2) + "\n", "cell.json")
        self.client.log_artifact(self.run_id, str(weights))

    def arm(self, comparison: PlannedComparison, result: EntryResult) -> None:
        """Log the metrics of one form of a level, all its samples (samples.json) and what was compared."""
        now = time.time_ns() // 1_000_000
        self._log([Metric(name, value, now, 0) for name, value in result.metrics.items()])
        self.client.log_text(self.run_id, json.dumps(result.samples) + "\n", "samples.json")
        self.client.log_text(self.run_id, comparison.spec.to_json() + "\n", "comparison.json")

    def _log(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.run_id, metrics[start : start + BATCH])


def create_record(workspace: Workspace) -> None:
    """Create MLflow's tables where there are none; a file aside and renamed, so that a half-made one is never seen."""
    tracking = workspace.tracking
    path = sqlite_path(tracking)
    if path is None and not is_server(tracking) and not has_table("record", tracking, "experiments"):
        SqlAlchemyStore(tracking, workspace.artifacts.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    if path is None or database_exists(path):
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    store = SqlAlchemyStore(f"sqlite:///{aside}", workspace.artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()
    aside.replace(path)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as model.k and so on."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
