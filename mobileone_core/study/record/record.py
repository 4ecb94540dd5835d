"""The record through MLflow's client: an experiment per study, a flat run per attempt or entry of a comparison."""

import dataclasses
import itertools
import json
import time
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mobileone_core.benchmark.spec import EntryResult
from mobileone_core.errors import InputError, require
from mobileone_core.study.database import create_file, database_error, has_table, require_database, sqlite_path
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.plan import Plan, PlannedCell, PlannedComparison, Queued
from mobileone_core.study.queue.trials import TrialView
from mobileone_core.study.record.client import PatientClient, short_timeout, twice
from mobileone_core.study.record.tables import EXCLUDED, PLAN, RecordedRun, RunStatus, check_schema, relocate
from mobileone_core.study.workspace import Workspace, is_server, one_line, redacted
from mobileone_core.training.cell import SCHEMA
from mobileone_core.training.model_card import CARD
from mobileone_core.training.observer import CellResult, EpochRecord

BATCH = 900  # metrics in one call; MLflow takes 1000
PAGE = 1000  # runs in one call
WEIGHTS, RAW_WEIGHTS = "weights.safetensors", "weights_raw.safetensors"  # averaged, if the recipe averages; last ones
RECORD_ERRORS = (MlflowException,)
FINISHED = "attributes.status = 'FINISHED'"


@dataclasses.dataclass(frozen=True)
class RunWriter:
    """Writes metrics and artifacts of one run; unsent are the epochs that a server which was away has not received."""

    client: MlflowClient
    run_id: str
    unsent: list[EpochRecord] = dataclasses.field(default_factory=list)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log metrics that belong to no epoch, at step 0."""
        self.log_epochs([EpochRecord(0, 0, time.time_ns() // 1_000_000, metrics)])

    def log_epochs(self, history: Sequence[EpochRecord]) -> None:
        """Log epochs as of the times at which they ended; the step of a curve is the epoch.

        If the tracking server is away, a warning says so, and the epochs go with the next ones, in order.
        """
        self.unsent.extend(history)
        if all(cast("PatientClient", self.client).offer("log_batch", self.run_id, batch) for batch in self._batches()):
            self.unsent.clear()
        else:
            warnings.warn("the tracking server is away; epochs are recorded when it answers", stacklevel=2)

    def _batches(self) -> Iterator[list[Metric]]:
        metrics = [Metric(*item, epoch.time_ms, epoch.epoch) for epoch in self.unsent for item in epoch.metrics.items()]
        return (metrics[start : start + BATCH] for start in range(0, len(metrics), BATCH))

    def log_result(self, cell: PlannedCell, result: CellResult, last: EpochRecord) -> None:
        """Log unsent epochs, final metrics that differ from the last epoch's, cell.json, model.json and the weights."""
        final = {name: value for name, value in result.metrics.items() if last.metrics.get(name) != value}
        self.unsent.append(dataclasses.replace(last, metrics=final))
        for batch in self._batches():
            self.client.log_batch(self.run_id, batch)
        self.unsent.clear()
        spec = {"schema": SCHEMA, **dataclasses.asdict(cell.spec)}
        self.save_text("cell.json", json.dumps(spec, indent=2) + "\n")
        if result.card:
            self.save_text(CARD, json.dumps(result.card, indent=2) + "\n")
        for path in filter(None, (result.weights, result.raw_weights, *result.pictures)):
            self.client.log_artifact(self.run_id, str(path))

    def log_entry(self, comparison: PlannedComparison, result: EntryResult) -> None:
        """Log the metrics of an entry, all its samples (samples.json) and the whole comparison (comparison.json)."""
        self.log(result.metrics)
        self.save_text("samples.json", json.dumps(result.samples) + "\n")
        self.save_text("comparison.json", comparison.spec.to_json() + "\n")

    def save_text(self, name: str, text: str) -> None:
        """Save a text as an artifact."""
        self.client.log_text(self.run_id, text, name)


class Record:
    """The runs of a tracking server or database. Raises InputError if it cannot be used.

    wait: what to do between two tries while a tracking server is away; see PatientClient.
    """

    def __init__(self, tracking: str, wait: Callable[[], None] | None = None) -> None:
        path = sqlite_path(tracking)
        if path is not None:
            require_database(path)
        elif not is_server(tracking) and not has_table("record", tracking, "experiments"):
            raise InputError(f"{redacted(tracking)}: no record here yet")
        try:
            self.client = cast("MlflowClient", PatientClient(tracking, wait))
            with short_timeout():
                self.client.get_experiment_by_name("Default")
        except MlflowException as error:
            raise database_error("record", tracking, error) from error
        self.tracking = tracking

    def experiment(self, study: str) -> Experiment | None:
        """A study's experiment, or None. Raises InputError if a newer schema wrote it."""
        experiment = self.client.get_experiment_by_name(study)
        if experiment is not None:
            check_schema(experiment.tags, f"record {redacted(self.tracking)}, study {study}")
        return experiment

    def save_plan(self, plan: Plan, artifacts: Path, declared: Mapping[str, str] | None = None) -> None:
        """Save a plan, and who declares its study, as tags of the study's experiment, created if missing."""
        experiment = self.create_experiment(plan.study.name, artifacts)
        for tag, text in {PLAN + plan.id: plan.to_json(), **(declared or {})}.items():
            if text and experiment.tags.get(tag) != text:
                self.client.set_experiment_tag(experiment.experiment_id, tag, text)

    def forget_plan(self, plan: Plan) -> None:
        """Delete a recorded plan; its runs stay."""
        experiment = self.experiment(plan.study.name)
        if experiment and PLAN + plan.id in experiment.tags:
            self.client.delete_experiment_tag(experiment.experiment_id, PLAN + plan.id)

    def create_experiment(self, name: str, artifacts: Path) -> Experiment:
        """An experiment to write to: created if it is missing, restored if it was deleted."""
        experiment = self.experiment(name)
        if experiment is None:
            location = None if is_server(self.tracking) else (artifacts / name).as_uri()
            number = self.client.create_experiment(name, location, tags={"schema": str(SCHEMA)})
            return self.client.get_experiment(number)
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return experiment

    def start(self, cell: PlannedCell, tags: Mapping[str, str]) -> RunWriter:
        """Start a run of a cell, with its tags from the first moment."""
        writer = self._started(cell, cell.factors, {"data": cell.spec.data.name, **tags})
        params = [Param(name, str(value)) for name, value in flat(dataclasses.asdict(cell.spec))]
        self.client.log_batch(writer.run_id, params=params)
        name, source = tags.get("data_set", cell.spec.data.name), json.dumps({"data_root": tags.get("data_root", "")})
        dataset = Dataset(name, cell.spec.data.digest, "local", source)
        twice(self.client.log_inputs, writer.run_id, datasets=[DatasetInput(dataset, [])])
        return writer

    def start_entry(self, comparison: PlannedComparison, result: EntryResult, tags: Mapping[str, str]) -> RunWriter:
        """Start a run with these tags for the result of an entry of a comparison, or of its train or deployed form."""
        form = {"form": result.form} if result.form else {}
        named = {"comparison": comparison.key, "level": result.label, "data": comparison.data, **form, **result.tags}
        named |= {"unmeasured": result.unmeasured} if result.unmeasured else {}
        return self._started(comparison, {**result.factors, **form}, {**tags, **named})

    def _started(self, queued: Queued, factors: Mapping[str, Level], tags: Mapping[str, str]) -> RunWriter:
        experiment = self.experiment(queued.study)
        if experiment is None:
            allowed = f"it is not in the record {redacted(self.tracking)}; plan it first"
            raise InputError.of("study", queued.study, allowed)
        named = {"study": queued.study, "cell": queued.key, "seed": str(queued.seed), "variant": queued.variant}
        named |= {f"factor.{name}": str(level) for name, level in factors.items()}
        named["factors"] = json.dumps(dict(factors))
        name = " ".join([*(f"{name}={level_text(level)}" for name, level in factors.items()), f"seed={queued.seed}"])
        run = self.client.create_run(experiment.experiment_id, tags={**named, **tags}, run_name=name)
        return RunWriter(self.client, run.info.run_id)

    def file(self, run_id: str, name: str, directory: Path) -> Path:
        """Path of one of a run's artifacts; those of a server are downloaded into directory.

        Raises InputError if there is no such artifact.
        """
        try:
            uri = urlsplit(self.client.get_run(run_id).info.artifact_uri)
            if uri.scheme == "file":
                path = self._near(Path(url2pathname(uri.path))) / name
            else:
                directory.mkdir(parents=True, exist_ok=True)
                path = Path(self.client.download_artifacts(run_id, name, str(directory)))
        except RECORD_ERRORS as error:
            raise InputError(f"{name} of run {run_id}: {one_line(error)}") from error
        if not path.is_file():
            raise InputError(f"{name} of run {run_id}: {path} is not there; machines share files by an MLflow server")
        return path

    def _near(self, artifacts: Path) -> Path:
        """A run's artifacts next to the record's file, as in a copied or moved runs directory, or as recorded."""
        path = sqlite_path(self.tracking)
        near = path and path.parent.joinpath("artifacts", *artifacts.parts[-3:])  # study, run id, artifacts
        return near if near and near.is_dir() else artifacts

    def end(self, run_id: str, status: str, error: str = "") -> None:
        """Set a run FINISHED, FAILED (with its error) or KILLED."""
        if error:
            self.client.set_tag(run_id, "error", error)
        self.client.set_terminated(run_id, status)

    def kill_runs(self, trial: TrialView) -> None:
        """Set the runs of an attempt KILLED, those that were deleted left out."""
        for run_id in filter(self.is_active, trial.runs):
            self.end(run_id, "KILLED")

    def is_active(self, run_id: str) -> bool:
        """Whether a run exists and was not deleted."""
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def run_ids(self, prefix: str) -> Mapping[str, str]:
        """Name of every run whose id begins with prefix, by id, as RecordTables.run_ids."""
        ids = [str(item.experiment_id) for item in self.client.search_experiments()]
        runs = self.client.search_runs(ids, f"attributes.run_id LIKE '{prefix}%'", ViewType.ACTIVE_ONLY, PAGE)
        return {run.info.run_id: run.info.run_name for run in runs}

    def runs(self, study: str, condition: str) -> Iterator[Run]:
        """Runs of a study that meet a condition in MLflow's search language, read page by page."""
        experiment = self.experiment(study)
        ids, token = [experiment.experiment_id] if experiment else [], None
        while ids and token != "":
            page = self.client.search_runs(ids, condition, ViewType.ACTIVE_ONLY, PAGE, page_token=token)
            yield from page
            token = page.token or ""

    def experiments(self) -> list[str]:
        """Names of the experiments, as RecordTables.experiments."""
        return [experiment.name for experiment in self.client.search_experiments(order_by=["experiment_id ASC"])]

    def experiment_tags(self, study: str) -> Mapping[str, str]:
        """Tags of a study's experiment, as RecordTables.experiment_tags."""
        experiment = self.experiment(study)
        return experiment.tags if experiment else {}

    def statuses(self, study: str, queue: str) -> Sequence[RunStatus]:
        """Status of every run of a study's queue, as RecordTables.statuses."""
        return [
            RunStatus(run.info.run_id, run.info.status, run.data.tags["cell"], int(run.data.tags.get("trial", -1)))
            for run in self.runs(study, f"tags.queue = '{queue}'")
            if "cell" in run.data.tags
        ]

    def excluded(self, study: str) -> set[str]:
        """Ids of a study's runs that reports leave out, as RecordTables.excluded."""
        return {run.info.run_id for run in self.runs(study, f"tags.{EXCLUDED} = 'true'")}

    def exclude(self, run_id: str, *, undo: bool) -> None:
        """Let reports leave a run out, or show it again. Raises InputError for undo of a run that is not excluded."""
        if not undo:
            self.client.set_tag(run_id, EXCLUDED, "true")
            return
        require(EXCLUDED in self.client.get_run(run_id).data.tags, "run", run_id, "an excluded run")
        self.client.delete_tag(run_id, EXCLUDED)

    def finished_cells(self, study: str, queue: str, cells: Container[str]) -> Iterator[RecordedRun]:
        """The FINISHED runs of these cells in a study's queue, as RecordTables.finished_cells."""
        runs = self.runs(study, f"{FINISHED} AND tags.queue = '{queue}'")
        return (_recorded(run) for run in runs if run.data.tags.get("cell") in cells)

    def finished(self, study: str) -> Iterator[RecordedRun]:
        """All FINISHED runs of a study, with their params, as RecordTables.finished."""
        return map(_recorded, self.runs(study, FINISHED))

    def curves(self, runs: Sequence[str], metrics: Sequence[str]) -> Iterator[tuple[str, str, Mapping[int, float]]]:
        """Metrics of runs by epoch, as RecordTables.curves, with a request per run and metric."""
        for run_id, name in itertools.product(runs, metrics):
            history = self.client.get_metric_history(run_id, name)
            yield run_id, name, {item.step: item.value for item in sorted(history, key=lambda item: item.timestamp)}


def _recorded(run: Run) -> RecordedRun:
    return RecordedRun(run.info.run_id, run.data.tags, run.data.metrics, run.data.params)


def create_record(workspace: Workspace) -> None:
    """Create MLflow's tables if they are missing; in a runs directory that was moved, its artifacts are found again."""

    def create(url: str) -> None:
        SqlAlchemyStore(url, workspace.artifacts.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]

    tracking = workspace.tracking
    create_file(tracking, create)
    relocate(workspace)
    if sqlite_path(tracking) is None and not is_server(tracking) and not has_table("record", tracking, "experiments"):
        create(tracking)


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as model.k and so on."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
