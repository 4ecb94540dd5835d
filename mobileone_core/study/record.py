"""The record: one MLflow experiment a study, one flat run an attempt. MLflow is imported here alone."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Plan, PlannedCell
from mobileone_core.study.environment import SAID, VERSION
from mobileone_core.study.rows import CellRow
from mobileone_core.study.server import has_table, refusal
from mobileone_core.study.sqlite import LOCKED, is_there, require_database, sqlite_path
from mobileone_core.study.trials import check_schema
from mobileone_core.study.workspace import Workspace, is_server, shown
from mobileone_core.training.cell import SCHEMA
from mobileone_core.training.observer import EpochRecord

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

BATCH = 900  # metrics in one call; MLflow takes 1000
PAGE = 1000
PLAN = "plan."
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
    end = time.monotonic() + LOCKED
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
            if not is_there(path):
                raise InputError(f"{path}: no record here yet")
            require_database(path)
        elif not is_server(tracking) and not has_table("record", tracking, "experiments"):
            raise InputError(f"{shown(tracking)}: no record here yet")
        try:
            client = _patiently(MlflowClient, tracking)
            self.client = cast("MlflowClient", Patient(client))
            with _first_contact():
                self.client.get_experiment_by_name("Default")
        except MlflowException as error:
            if "failed with exception" in str(error):
                raise InputError(f"record {shown(tracking)}: no MLflow server answers") from error
            raise refusal("record", tracking, error) from error
        self.tracking = tracking

    def experiment(self, study: str) -> Experiment | None:
        """A study's experiment; InputError where a newer schema wrote it."""
        found = self.client.get_experiment_by_name(study)
        if found is not None:
            check_schema(found.tags.get("schema"), f"record {shown(self.tracking)}, study {study}")
        return found

    def keep_plan(self, plan: Plan, artifacts: Path) -> None:
        """Record a plan among the tags of its study's experiment, which is created where it is missing."""
        found = self.experiment(plan.study.name)
        if found is None:
            location = None if is_server(self.tracking) else (artifacts / plan.study.name).as_uri()
            number = self.client.create_experiment(plan.study.name, location, tags={"schema": str(SCHEMA)})
        else:
            number = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(number)
        if found is None or found.tags.get(PLAN + plan.id) != plan.to_json():
            self.client.set_experiment_tag(number, PLAN + plan.id, plan.to_json())

    def start(self, cell: PlannedCell, tags: Mapping[str, str]) -> "RunWriter":
        """A new run of a cell, with its tags from the first moment."""
        experiment = self.experiment(cell.study)
        if experiment is None:
            raise InputError.of("study", cell.study, f"it is not in the record {shown(self.tracking)}; plan it first")
        factors = {f"factor.{name}": str(level) for name, level in cell.factors.items()}
        named = {
            "study": cell.study,
            "cell": cell.key,
            "seed": str(cell.seed),
            "data": cell.spec.data.name,
            "variant": cell.variant,
            "factors": json.dumps(dict(cell.factors)),
        }
        words = [*(f"{name}={level}" for name, level in cell.factors.items()), f"seed={cell.seed}"]
        tags = {**named, **factors, **tags}
        run = self.client.create_run(experiment.experiment_id, tags=tags, run_name=" ".join(words))
        params = [Param(name, str(value)) for name, value in _flat(dataclasses.asdict(cell.spec))]
        self.client.log_batch(run.info.run_id, params=params)
        return RunWriter(self.client, run.info.run_id)

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

    def _log(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.run_id, metrics[start : start + BATCH])


def create_record(workspace: Workspace) -> None:
    """Create MLflow's tables where there are none; a file aside and renamed, so that a half-made one is never seen."""
    tracking = workspace.tracking
    path = sqlite_path(tracking)
    if path is None and not is_server(tracking) and not has_table("record", tracking, "experiments"):
        SqlAlchemyStore(tracking, workspace.artifacts.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    if path is None or is_there(path):
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    store = SqlAlchemyStore(f"sqlite:///{aside}", workspace.artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()
    aside.replace(path)


def read_rows(tracking: str, study: str, keys: Collection[str]) -> tuple[list[CellRow], list[str]]:
    """The FINISHED runs of these cells, in the order of keys, and what is wrong with the record in words."""
    wanted = {key: number for number, key in enumerate(keys)}
    runs = Record(tracking).runs(study, FINISHED)
    rows = sorted((row for row in map(_row, runs) if row.key in wanted), key=lambda row: (wanted[row.key], row.run_id))
    by_key: dict[str, list[str]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row.run_id)
    problems = [
        f"cell {key} has {len(ids)} finished runs, where one is allowed: {', '.join(ids)}"
        for key, ids in by_key.items()
        if len(ids) > 1
    ]
    return rows, problems


def holds(tracking: str, plan: Plan, runs: Collection[str]) -> bool:
    """Whether the plan is recorded, these and no others of its runs are FINISHED, and none of its queue is open."""
    record = Record(tracking)
    experiment = record.experiment(plan.study.name)
    if experiment is None or experiment.tags.get(PLAN + plan.id) != plan.to_json():
        return False
    finished = record.runs(plan.study.name, FINISHED)
    keys = {cell.key for cell in plan.cells}
    found = {run.info.run_id for run in finished if run.data.tags["cell"] in keys}
    return found == set(runs) and not record.open_runs(plan.study.name, plan.queue)


def read_plans(tracking: str, study: str) -> list[Plan]:
    """The plans recorded for a study."""
    experiment = Record(tracking).experiment(study)
    tags = experiment.tags if experiment else {}
    return [Plan.from_json(text) for name, text in sorted(tags.items()) if name.startswith(PLAN)]


def recorded_studies(tracking: str) -> list[str]:
    """The studies that have a plan in the record."""
    found = Record(tracking).client.search_experiments(order_by=["experiment_id ASC"])
    return [item.name for item in found if any(name.startswith(PLAN) for name in item.tags)]


def _row(run: Run) -> CellRow:
    tags = run.data.tags
    environment = {name: text for name, text in tags.items() if name in SAID or name.startswith(VERSION)}
    factors = json.loads(tags["factors"])
    return CellRow(tags["cell"], int(tags["seed"]), factors, run.info.run_id, dict(run.data.metrics), environment)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as model.k and so on."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
