"""Where every cell stands, read in milliseconds and without a trace: neither Optuna nor MLflow is imported here."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mobileone_core.study.database import check_revision, database_exists, open_readonly, sqlite_path
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.plan import Plan, Queued, Role
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.trials import VOID, TrialView
from mobileone_core.study.record.access import is_recorded, record_exists
from mobileone_core.study.workspace import Workspace

State = Literal["missing", "waiting", "running", "complete", "failed"]
STATES: tuple[State, ...] = ("complete", "running", "waiting", "failed", "missing")
# attributes of a trial that are shown: all but the spec
OF_CELL = ("cell", "role", "needs", "seed", "factors", "variant", "epochs", "attempt")
SHOWN = (*OF_CELL, "runs", "run", "error", "warning", "owner")
OF_TRIAL: dict[str, State] = {"COMPLETE": "complete", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class CellState:
    """A cell, a teacher or a comparison, and its latest attempt.

    needs are the keys to be complete first; runs are those of the record; owner is the process at work. value is the
    last epoch's validation metric, or the final metric where complete; epochs are a comparison's rounds. started and
    ended are local times without a zone, as Optuna stores them.
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
    epochs: int = 0
    value: float | None = None
    owner: Owner | None = None
    error: str = ""
    warning: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def label(self) -> str:
        """The cell in words: k=4 seed 2; a comparison has no seed."""
        words = [f"{name}={level_text(level)}" for name, level in self.factors.items()]
        return " ".join(words if self.role == "comparison" else [*words, f"seed {self.seed}"])

    @property
    def run_id(self) -> str:
        """The run, or the first of several; empty before there is one."""
        return self.runs[0] if self.runs else ""


def cell_states(workspace: Workspace, plan: Plan) -> list[CellState]:
    """Teachers, cells and the comparison of a plan, in its order; InputError where the queue cannot be read."""
    found = {item.key: item for item in study_states(workspace, plan.queue)}
    return [found.get(cell.key) or _missing(cell) for cell in plan.queued]


def waiting_for_failed(states: Sequence[CellState]) -> list[CellState]:
    """What waits for a failed cell, or for one that itself waits for a failed one."""
    stuck = {item.key for item in states if item.state == "failed"}
    found: dict[str, CellState] = {}
    while new := [
        item for item in states if item.state == "waiting" and item.key not in found and stuck & {*item.needs}
    ]:
        found |= {item.key: item for item in new}
        stuck |= set(found)
    return list(found.values())


def study_states(workspace: Workspace, study: str) -> list[CellState]:
    """Every cell of a study that was ever queued, in the order of queueing."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue.storage import trial_views

        return fold(trial_views(workspace.queue, study))
    with _opened(path) as connection:
        return fold(_views(connection, study)) if connection else []


def study_names(workspace: Workspace) -> list[str]:
    """The studies in the queue, in the order of their first plan."""
    path = sqlite_path(workspace.queue)
    if path is None:
        from mobileone_core.study.queue.storage import study_names_of

        return study_names_of(workspace.queue)
    with _opened(path) as connection:
        query = "SELECT study_name FROM studies ORDER BY study_id"
        return [row[0] for row in connection.execute(query)] if connection else []


def is_settled(workspace: Workspace, plan: Plan, states: Sequence[CellState]) -> bool:
    """Whether nothing is left to do: all complete, their runs FINISHED, no run left open, the plan recorded."""
    if any(item.state != "complete" for item in states) or not record_exists(workspace.tracking):
        return False
    return is_recorded(workspace.tracking, plan, {run for item in states for run in item.runs})


def fold(trials: Iterable[TrialView]) -> list[CellState]:
    """One state a cell from all its attempts: a complete one counts first, then a running, a waiting, the last."""
    attempts: dict[str, list[TrialView]] = {}
    for trial in trials:
        if "cell" in trial.attributes and trial.state != "PRUNED":
            attempts.setdefault(trial.key, []).append(trial)
    return [_of_cell(key, items) for key, items in attempts.items()]


def _of_cell(key: str, trials: Sequence[TrialView]) -> CellState:
    for wanted in OF_TRIAL:
        chosen = next((item for item in trials if item.state == wanted), None)
        if chosen:
            break
    else:
        chosen = trials[-1]
    of = chosen.attributes
    return CellState(
        key=key,
        seed=of["seed"],
        factors=of["factors"],
        state=OF_TRIAL.get(chosen.state, "failed" if "error" in of else "missing"),
        variant=of["variant"],
        role=of.get("role", "cell"),
        needs=chosen.needs,
        trial=chosen.number,
        attempt=of["attempt"],
        runs=chosen.runs,
        epoch=chosen.epoch,
        epochs=of["epochs"],
        value=chosen.value,
        owner=Owner.read(of.get("owner")),
        error=of.get("error", ""),
        warning=of.get("warning", ""),
        started=chosen.started,
        ended=chosen.ended,
    )


def _missing(cell: Queued) -> CellState:
    return CellState(
        cell.key, cell.seed, cell.factors, "missing", cell.variant, cell.role, cell.needs, epochs=cell.epochs
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Optuna's database, or None where there is none yet."""
    if not database_exists(path):
        yield None
        return
    with open_readonly(path) as connection:
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
