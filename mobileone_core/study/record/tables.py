"""MLflow's tables in an SQLite file, read without MLflow; relocate() alone changes the file."""

import contextlib
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mobileone_core.errors import InputError, refusing
from mobileone_core.study.database import LOCK_TIMEOUT, database_exists, open_tables, sqlite_path
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import SCHEMA

PLAN = "plan."  # start of an experiment tag that holds a plan
EXCLUDED = "excluded"  # tag of a run that reports leave out
DECLARED_IN = "declared_in"  # experiment tag: the file that declares the study
DECLARATION = "declaration"  # experiment tag: digest of what that file declares
COUNT = "comparison.runs"  # tag: how many runs the comparison has
CHUNK = 500  # runs per query
VALUE = "CASE WHEN is_nan THEN 'nan' ELSE value END"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A FINISHED run: its tags, the last value of every metric, and its params if they were requested."""

    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str] = field(default_factory=dict)


class RunStatus(NamedTuple):
    """A run's status in MLflow, and the cell and trial that it belongs to (-1 if it names no trial)."""

    run_id: str
    status: str
    cell: str
    trial: int


class RecordTables:
    """One consistent view of a record. Deleted runs and experiments do not exist in it.

    Methods that name a study raise InputError if a newer schema wrote its experiment.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator["RecordTables"]:
        """Open a record's file. Raises InputError if it is missing or no record, or where its content is broken."""
        if not database_exists(path):
            raise InputError(f"{path}: no record here yet")
        opened = open_tables(path, "mlflow", "store/db_migrations/versions")
        with opened as connection, refusing(f"{path}: not as this version records"):
            connection.execute("BEGIN")
            yield cls(connection, path)

    def experiments(self) -> list[str]:
        """Names of the experiments, in order of creation."""
        query = "SELECT name FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id"
        return [name for (name,) in self.connection.execute(query)]

    def experiment_tags(self, study: str) -> Mapping[str, str]:
        """Tags of a study's experiment; none if it does not exist."""
        query = "SELECT key, value FROM experiment_tags JOIN experiments USING (experiment_id) WHERE name = ?"
        tags = dict(self.connection.execute(query, (study,)))
        check_schema(tags, f"record {self.path}, study {study}")
        return tags

    def statuses(self, study: str, queue: str) -> Sequence[RunStatus]:
        """Status of every run of a study's queue."""
        self.experiment_tags(study)
        query = (
            "SELECT runs.run_uuid, status, cell.value, coalesce(trial.value, -1) FROM runs "
            "JOIN experiments USING (experiment_id) "
            "JOIN tags AS queue ON queue.run_uuid = runs.run_uuid AND queue.key = 'queue' "
            "JOIN tags AS cell ON cell.run_uuid = runs.run_uuid AND cell.key = 'cell' "
            "LEFT JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial' "
            "WHERE experiments.name = ? AND queue.value = ? AND runs.lifecycle_stage = 'active'"
        )
        rows = self.connection.execute(query, (study, queue))
        return [RunStatus(run_id, status, cell, int(trial)) for run_id, status, cell, trial in rows]

    def run_ids(self, prefix: str) -> Mapping[str, str]:
        """Name of every run whose id begins with prefix, by id."""
        query = "SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active' AND substr(run_uuid, 1, ?) = ?"
        return dict(self.connection.execute(query, (len(prefix), prefix)).fetchall())

    def excluded(self, study: str) -> set[str]:
        """Ids of a study's runs that reports leave out."""
        return set(self._run_ids(study, f"run_uuid IN (SELECT run_uuid FROM tags WHERE key = '{EXCLUDED}')"))

    def finished_cells(self, study: str, queue: str, cells: Container[str]) -> Iterator[RecordedRun]:
        """The FINISHED runs of a study's queue that belong to these cells."""
        statuses = self.statuses(study, queue)
        return self._runs([run.run_id for run in statuses if run.status == "FINISHED" and run.cell in cells])

    def finished(self, study: str) -> Iterator[RecordedRun]:
        """All FINISHED runs of a study, with their params."""
        return self._runs(self._run_ids(study, "status = 'FINISHED'"), params=True)

    def _run_ids(self, study: str, condition: str) -> list[str]:
        self.experiment_tags(study)
        query = (
            "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) "
            f"WHERE experiments.name = ? AND runs.lifecycle_stage = 'active' AND {condition}"
        )
        return [run_id for (run_id,) in self.connection.execute(query, (study,))]

    def _runs(self, runs: Sequence[str], *, params: bool = False) -> Iterator[RecordedRun]:
        for chunk in _chunks(runs):
            tags, metrics = self._values("tags", "value", chunk), self._values("latest_metrics", VALUE, chunk)
            requested = self._values("params", "value", chunk) if params else {}
            for run_id in chunk:
                numbers = {name: float(value) for name, value in metrics.get(run_id, {}).items()}
                yield RecordedRun(run_id, tags.get(run_id, {}), numbers, requested.get(run_id, {}))

    def curves(self, runs: Sequence[str], metrics: Sequence[str]) -> Iterator[tuple[str, str, Mapping[int, float]]]:
        """Yield run id, metric, and its last value by epoch: run by run, metrics in the given order."""
        for chunk in _chunks(runs):
            query = (
                f"SELECT run_uuid, key, step, {VALUE} FROM metrics WHERE run_uuid IN ({_marks(chunk)}) "
                f"AND key IN ({_marks(metrics)}) ORDER BY timestamp, step, value"
            )
            curves: dict[tuple[str, str], dict[int, float]] = {}
            for run_id, name, step, value in self.connection.execute(query, (*chunk, *metrics)):
                curves.setdefault((run_id, name), {})[step] = float(value)
            yield from ((run_id, name, curves.get((run_id, name), {})) for run_id in chunk for name in metrics)

    def _values(self, table: str, value: str, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
        values: dict[str, dict[str, Any]] = {}
        query = f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN ({_marks(runs)})"
        for run_id, key, item in self.connection.execute(query, runs):
            values.setdefault(run_id, {})[key] = item
        return values


def check_schema(tags: Mapping[str, str], where: str) -> None:
    """Raise InputError, beginning with where, if a newer schema wrote the experiment with these tags."""
    schema = tags.get("schema")
    if schema is not None and (not schema.isdigit() or int(schema) > SCHEMA):
        raise InputError(f"{where}: written by a newer version (schema {schema}); this one reads schema {SCHEMA}")


def included(runs: Iterable[RecordedRun], excluded: dict[str, str]) -> Iterator[RecordedRun]:
    """The runs without those that are excluded, whose ids and cells are added to excluded."""
    for run in runs:
        if EXCLUDED in run.tags:
            excluded[run.run_id] = run.tags.get("cell", "")
        else:
            yield run


def relocate(workspace: Workspace) -> None:
    """Let the record of a runs directory that was moved or copied name its own artifacts.

    MLflow stores absolute locations: without this, the runs of a copy would be written into the original.
    """
    path = sqlite_path(workspace.tracking)
    if path is None or path.parent != workspace.runs or not path.exists():
        return
    with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT)) as connection, connection:
        for number, name, old in connection.execute("SELECT experiment_id, name, artifact_location FROM experiments"):
            directory = workspace.artifacts / name
            new = directory.as_uri()
            if old != new and old.endswith(f"/artifacts/{new.rpartition('/')[2]}") and directory.is_dir():
                query = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
                connection.execute(query, (new, number))
                query = (
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                    "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?"
                )
                connection.execute(query, (new, len(old) + 1, number, len(old) + 1, f"{old}/"))


def _chunks(runs: Sequence[str]) -> Iterator[Sequence[str]]:
    return (runs[start : start + CHUNK] for start in range(0, len(runs), CHUNK))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
