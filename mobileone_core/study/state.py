"""Where every cell stands, read in milliseconds and without a trace: neither Optuna nor MLflow is imported here."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mobileone_core.study.declaration import Level, Plan, PlannedCell
from mobileone_core.study.sqlite import check_revision, is_there, reading, sqlite_path
from mobileone_core.study.trials import VOID, TrialView, check_schema
from mobileone_core.study.workspace import Workspace

State = Literal["missing", "waiting", "running", "complete", "failed"]
STATES: tuple[State, ...] = ("complete", "running", "waiting", "failed", "missing")
# attributes of a trial that are shown: all but the spec
SHOWN = ("cell", "seed", "factors", "variant", "epochs", "attempt", "run", "error", "warning", "owner")
OF_TRIAL: dict[str, State] = {"COMPLETE": "complete", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class CellState:
    """A cell and its latest attempt; value is the last epoch's validation metric, or the final metric where complete.

    started and ended are local times without a zone, as Optuna stores them.
    """

    key: str
    seed: int
    factors: Mapping[str, Level]
    state: State = "missing"
    variant: str = ""
    trial: int | None = None
    attempt: int = 0
    run_id: str = ""
    epoch: int = 0
    epochs: int = 0
    value: float | None = None
    host: str = ""
    pid: int = 0
    error: str = ""
    warning: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def label(self) -> str:
        """The cell in words: k=4 seed 2."""
        return " ".join([*(f"{name}={level}" for name, level in self.factors.items()), f"seed {self.seed}"])


def cell_states(workspace: Workspace, plan: Plan) -> list[CellState]:
    """Every cell of a plan, in its order; InputError where the queue or the record cannot be read."""
    found = {item.key: item for item in study_states(workspace, plan.queue)}
    return [found.get(cell.key) or _missing(cell) for cell in plan.cells]


def study_states(workspace: Workspace, study: str) -> list[CellState]:
    """Every cell of a study that was ever queued, in the order of queueing."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue_storage import trial_views

        return fold(trial_views(workspace.queue, study))
    with _opened(path) as connection:
        return fold(_views(connection, study)) if connection else []


def study_names(workspace: Workspace) -> list[str]:
    """The studies in the queue, in the order of their first plan."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue_storage import study_names_of

        return study_names_of(workspace.queue)
    with _opened(path) as connection:
        query = "SELECT study_name FROM studies ORDER BY study_id"
        return [row[0] for row in connection.execute(query)] if connection else []


def is_settled(workspace: Workspace, plan: Plan, states: Sequence[CellState]) -> bool:
    """Whether nothing is left to do: all cells complete, their runs FINISHED, no run left open, the plan recorded."""
    if any(item.state != "complete" for item in states):
        return False
    path = sqlite_path(workspace.tracking)
    if path is None:
        from mobileone_core.study.record import holds

        return holds(workspace.tracking, plan, [item.run_id for item in states])
    if not is_there(path):
        return False
    with reading(path) as connection:
        check_revision(connection, path, "mlflow", "store/db_migrations/versions")
        check_schema(_experiment_tag(connection, plan.study.name, "schema"), path)
        if _experiment_tag(connection, plan.study.name, f"plan.{plan.id}") != plan.to_json():
            return False
        runs = _run_states(connection, plan.study.name, plan.queue)
    keys = {cell.key for cell in plan.cells}
    finished = {run for run, status, key in runs if status == "FINISHED" and key in keys}
    return finished == {item.run_id for item in states} and not any(status == "RUNNING" for _, status, _ in runs)


def fold(trials: Iterable[TrialView]) -> list[CellState]:
    """One state a cell from all its attempts: a complete one counts first, then a running, a waiting, the last."""
    attempts: dict[str, list[TrialView]] = {}
    for trial in trials:
        if "cell" in trial.attributes and trial.state != "PRUNED":
            attempts.setdefault(trial.attributes["cell"], []).append(trial)
    return [_of_cell(key, items) for key, items in attempts.items()]


def _of_cell(key: str, trials: Sequence[TrialView]) -> CellState:
    for wanted in OF_TRIAL:
        chosen = next((item for item in trials if item.state == wanted), None)
        if chosen:
            break
    else:
        chosen = trials[-1]
    of = chosen.attributes
    owner = of.get("owner") or {}
    return CellState(
        key=key,
        seed=of["seed"],
        factors=of["factors"],
        state=OF_TRIAL.get(chosen.state, "failed" if "error" in of else "missing"),
        variant=of["variant"],
        trial=chosen.number,
        attempt=of["attempt"],
        run_id=of.get("run", ""),
        epoch=chosen.epoch,
        epochs=of["epochs"],
        value=chosen.value,
        host=owner.get("host", ""),
        pid=owner.get("pid", 0),
        error=of.get("error", ""),
        warning=of.get("warning", ""),
        started=chosen.started,
        ended=chosen.ended,
    )


def _missing(cell: PlannedCell) -> CellState:
    return CellState(cell.key, cell.seed, cell.factors, variant=cell.variant, epochs=cell.spec.recipe.epochs)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Optuna's database, or None where there is none yet."""
    if not is_there(path):
        yield None
        return
    with reading(path) as connection:
        check_revision(connection, path, "optuna", "storages/_rdb/alembic/versions")
        yield connection


def _views(connection: sqlite3.Connection, study: str) -> Iterator[TrialView]:
    """Optuna's tables as trials; one transaction, so that they agree."""
    connection.execute("BEGIN")
    of_study = "JOIN trials USING (trial_id) JOIN studies USING (study_id) WHERE study_name = ?"
    attributes: dict[int, dict[str, Any]] = {}
    marks = ", ".join("?" * len(SHOWN))
    query = f"SELECT trial_id, key, value_json FROM trial_user_attributes {of_study} AND key IN ({marks})"
    for trial, key, text in connection.execute(query, (study, *SHOWN)):
        attributes.setdefault(trial, {})[key] = json.loads(text)
    query = (
        f"SELECT trial_id, max(step), intermediate_value FROM trial_intermediate_values {of_study} GROUP BY trial_id"
    )
    epochs = {trial: (step, value) for trial, step, value in connection.execute(query, (study,))}
    values = dict(connection.execute(f"SELECT trial_id, value FROM trial_values {of_study}", (study,)))
    query = (
        "SELECT value_json FROM study_user_attributes JOIN studies USING (study_id) WHERE study_name = ? AND key = ?"
    )
    void = connection.execute(query, (study, VOID)).fetchone()
    query = (
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = ? ORDER BY number"
    )
    gone = json.loads(void[0]) if void else ()
    rows = connection.execute(query, (study,)).fetchall()
    for trial, number, state, started, ended in (row for row in rows if row[1] not in gone):
        epoch, value = epochs.get(trial, (0, None))
        value = values.get(trial, value)
        yield TrialView(number, state, attributes.get(trial, {}), epoch, value, _time(started), _time(ended))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _experiment_tag(connection: sqlite3.Connection, study: str, key: str) -> str | None:
    query = "SELECT value FROM experiment_tags JOIN experiments USING (experiment_id) WHERE name = ? AND key = ?"
    row = connection.execute(query, (study, key)).fetchone()
    return row[0] if row else None


def _run_states(connection: sqlite3.Connection, study: str, queue: str) -> list[tuple[str, str, str]]:
    """Id, status and cell of every run of a study's queue."""
    query = (
        "SELECT runs.run_uuid, status, cell.value FROM runs JOIN experiments USING (experiment_id) "
        "JOIN tags AS cell ON cell.run_uuid = runs.run_uuid AND cell.key = 'cell' "
        "JOIN tags AS queue ON queue.run_uuid = runs.run_uuid AND queue.key = 'queue' "
        "WHERE experiments.name = ? AND queue.value = ? AND runs.lifecycle_stage = 'active'"
    )
    return connection.execute(query, (study, queue)).fetchall()
