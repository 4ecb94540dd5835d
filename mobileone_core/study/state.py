"""State of every cell, read from the queue; an SQLite file is read directly and left unchanged."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from mobileone_core.study.database import database_exists, open_tables, sqlite_path
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.plan import Plan, Role
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.trials import VOID, TrialView
from mobileone_core.study.record.access import is_recorded
from mobileone_core.study.workspace import Workspace

State = Literal["missing", "waiting", "running", "complete", "failed"]
STATES: tuple[State, ...] = ("complete", "running", "waiting", "failed", "missing")
OF_TRIAL: dict[str, State] = {"COMPLETE": "complete", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class CellState:
    """A cell, a teacher or a comparison, and its latest attempt.

    needs: keys of the cells that must be complete first. runs: ids of its runs in the record. owner: the process that
    runs it. value: validation metric of the last epoch, or the final metric of a complete cell; metric: the latter's
    name. epochs: rounds if it is a comparison. epoch: epochs done, those kept of an earlier attempt included; part: the
    same with the part of the epoch that runs; speed: training images per second, 0 if not noted. started, ended: local
    times without a zone, as Optuna stores them.
    """

    key: str
    seed: int
    factors: Mapping[str, Level]
    state: State = "missing"
    variant: str = ""
    role: Role = "cell"
    needs: tuple[str, ...] = ()
    trial: int | None = None
    attempt: int = 0
    runs: tuple[str, ...] = ()
    epoch: int = 0
    part: float = 0.0
    speed: float = 0.0
    epochs: int = 0
    value: float | None = None
    metric: str = ""
    owner: Owner | None = None
    error: str = ""
    warning: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def label(self) -> str:
        """Name of the cell, such as "k=4 seed 2"; a comparison has no seed."""
        levels = [f"{name}={level_text(level)}" for name, level in self.factors.items()]
        return " ".join(levels if self.role == "comparison" else [*levels, f"seed {self.seed}"])

    @property
    def run_id(self) -> str:
        """Id of the first run, or an empty text."""
        return self.runs[0] if self.runs else ""


def validation_name(metric: str) -> str:
    """Name of the metric that validation gives of a cell that trains: val/top1 for test/top1 and corrupted/top1."""
    return re.sub("^(test|corrupted)/", "val/", metric)


def cell_states(workspace: Workspace, plan: Plan) -> list[CellState]:
    """State of all that a plan queues, in the plan's order. Raises InputError if the queue cannot be read."""
    states = {item.key: item for item in study_states(workspace, plan.queue)}
    names = ("key", "seed", "factors", "variant", "role", "needs", "epochs")
    return [states.get(cell.key) or CellState(**{name: getattr(cell, name) for name in names}) for cell in plan.queued]


def waiting_for_failed(states: Sequence[CellState]) -> list[CellState]:
    """Cells that wait for a failed cell, directly or through other waiting cells."""
    blocking = {item.key for item in states if item.state == "failed"}
    waiting = [item for item in states if item.state == "waiting"]
    blocked: list[CellState] = []
    while new := [item for item in waiting if item.key not in blocking and not blocking.isdisjoint(item.needs)]:
        blocked += new
        blocking |= {item.key for item in new}
    return blocked


def study_states(workspace: Workspace, study: str) -> list[CellState]:
    """State of every cell that was ever in a queue, in the order of queueing."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue.storage import trial_views

        return fold(trial_views(workspace.queue, study))
    with _opened(path) as connection:
        return fold(_views(connection, study)) if connection else []


def study_names(workspace: Workspace) -> list[str]:
    """Names of all queues, in the order of their first plan."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue.storage import study_names_of

        return study_names_of(workspace.queue)
    with _opened(path) as connection:
        query = "SELECT study_name FROM studies ORDER BY study_id"
        return [row[0] for row in connection.execute(query)] if connection else []


def is_settled(workspace: Workspace, plan: Plan, states: Sequence[CellState]) -> bool:
    """Whether nothing is left to do: all cells complete, their runs FINISHED, no run open, the plan recorded."""
    is_complete = all(item.state == "complete" for item in states)
    return is_complete and is_recorded(workspace.tracking, plan, {run for item in states for run in item.runs})


def fold(trials: Iterable[TrialView]) -> list[CellState]:
    """One state per cell from all its attempts: a complete one if there is one, else running, waiting, the last."""
    attempts: dict[str, list[TrialView]] = {}
    for trial in trials:
        if trial.is_attempt:
            attempts.setdefault(trial.key, []).append(trial)
    return [_of_cell(key, items) for key, items in attempts.items()]


def _of_cell(key: str, trials: Sequence[TrialView]) -> CellState:
    chosen = next((item for wanted in OF_TRIAL for item in trials if item.state == wanted), trials[-1])
    of = chosen.attributes
    epoch = max(chosen.epoch, of.get("kept", 0))
    return CellState(
        key=key,
        state=OF_TRIAL.get(chosen.state, "failed" if "error" in of else "missing"),
        trial=chosen.number,
        owner=Owner.read(of.get("owner")),
        epoch=epoch,
        part=max(epoch, of.get("part", 0.0)),
        **{name: of[name] for name in ("seed", "factors", "variant", "attempt", "epochs")},
        **{name: of[name] for name in ("role", "error", "warning", "metric", "speed") if name in of},
        **{name: getattr(chosen, name) for name in ("needs", "runs", "value", "started", "ended")},
    )


def _opened(path: Path) -> contextlib.AbstractContextManager[sqlite3.Connection | None]:
    """Open Optuna's database; None if it does not exist yet."""
    if not database_exists(path):
        return contextlib.nullcontext()
    return open_tables(path, "optuna", "storages/_rdb/alembic/versions")


def _views(connection: sqlite3.Connection, study: str) -> Iterator[TrialView]:
    """Read the trials of a study from Optuna's tables, in one transaction."""
    connection.execute("BEGIN")
    of_study = "JOIN studies USING (study_id) WHERE study_name = :study"
    of_trials = f"JOIN trials USING (trial_id) {of_study}"

    def rows(query: str) -> sqlite3.Cursor:
        return connection.execute(query, {"study": study})

    pairs = "'{' || group_concat(json_quote(key) || ':' || value_json) || '}'"
    query = f"SELECT trial_id, {pairs} FROM trial_user_attributes {of_trials} AND key != 'spec' GROUP BY trial_id"
    attributes = {trial: json.loads(text) for trial, text in rows(query)}
    query = f"SELECT trial_id, max(step), intermediate_value FROM trial_intermediate_values {of_trials}"
    epochs = {trial: (epoch, value) for trial, epoch, value in rows(f"{query} GROUP BY trial_id")}
    values = dict(rows(f"SELECT trial_id, value FROM trial_values {of_trials}"))
    voids = rows(f"SELECT value_json FROM study_user_attributes {of_study} AND key = '{VOID}'")
    void = {number for (text,) in voids for number in json.loads(text)}
    query = f"SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials {of_study} ORDER BY number"
    for trial, number, state, *times in rows(query):
        if number not in void:
            epoch, value = epochs.get(trial, (0, None))
            started, ended = (text and datetime.fromisoformat(text) for text in times)
            value = values.get(trial, value)
            yield TrialView(number, state, attributes.get(trial, {}), epoch, value, started, ended)
