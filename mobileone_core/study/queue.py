"""The queue: one Optuna study a study, one trial an attempt at a cell. Optuna is imported here alone."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import PlannedCell
from mobileone_core.study.job import QueueTiming
from mobileone_core.study.process import Owner
from mobileone_core.study.sqlite import is_there, sqlite_path
from mobileone_core.study.state import VOID, TrialView

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

OF_ATTEMPT = ("owner", "run", "error", "warning")  # what one attempt leaves on its trial; the rest names the cell
QUEUE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
LIVE = ("WAITING", "RUNNING", "COMPLETE")


class Claim:
    """A trial that this process holds."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.number = trial.number
        self.attributes = trial.user_attrs

    def note(self, name: str, value: object) -> bool:
        """Leave a word on the trial; False where it is no longer ours."""
        try:
            self.trial.set_user_attr(name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def report(self, epoch: int, value: float) -> bool:
        """Say how far the attempt is; False where the trial is no longer ours."""
        try:
            self.trial.report(value, epoch)
        except UpdateFinishedTrialError:
            return False
        return True


class Queue:
    """The trials of one study. on_dead is told of every attempt that another process left behind.

    Of several trials of a cell the lowest number that is waiting, running or complete is the one that counts:
    numbers are given in a transaction, so that all processes agree without a lock.
    """

    def __init__(
        self, url: str, study: str, timing: QueueTiming, on_dead: Callable[[TrialView], None], *, create: bool = False
    ) -> None:
        self.timing = timing
        self.on_dead = on_dead
        self._stale: list[TrialView] = []
        storage = open_storage(url, timing, self._after_stale)
        sampler = optuna.samplers.RandomSampler()
        if create:
            self.study = optuna.create_study(
                storage=storage, study_name=study, sampler=sampler, direction="maximize", load_if_exists=True
            )
            return
        try:
            self.study = optuna.load_study(storage=storage, study_name=study, sampler=sampler)
        except KeyError as error:
            raise InputError.of("study", study, "it is not in this queue; plan it first") from error

    def enqueue(self, cell: PlannedCell, metric: str, attempt: int) -> None:
        """Add a cell; metric names the value that its trial returns, attempt counts from 1."""
        attributes = {
            "cell": cell.key,
            "seed": cell.seed,
            "study": cell.study,
            "variant": cell.variant,
            "factors": dict(cell.factors),
            "metric": metric,
            "epochs": cell.spec.recipe.epochs,
            "spec": cell.spec.to_json(),
            "attempt": attempt,
        }
        self.study.enqueue_trial({}, user_attrs=attributes)

    def requeue(self, trial: TrialView) -> None:
        """Put the cell of an attempt that ended without a result back."""
        kept = {name: value for name, value in trial.attributes.items() if name not in OF_ATTEMPT}
        kept |= {"attempt": trial.attributes["attempt"] + 1, "after": trial.number}
        self.study.enqueue_trial({}, user_attrs=kept)

    def trials(self, *states: str) -> list[TrialView]:
        """All attempts in the order of their numbers, or those in the states named; spare and void ones left out."""
        wanted = tuple(TrialState[name] for name in states) or None
        views = [_view(trial) for trial in self.study.get_trials(deepcopy=False, states=wanted)]
        void = self.study.user_attrs.get(VOID, ())
        return [
            item for item in views if "cell" in item.attributes and item.state != "PRUNED" and item.number not in void
        ]

    def void(self, trial: TrialView) -> None:
        """Let a complete trial count no more: its result is lost."""
        self.study.set_user_attr(VOID, [*self.study.user_attrs.get(VOID, ()), trial.number])

    def claim(self, attempt: Callable[[Claim], float]) -> TrialView | None:
        """Pop one cell and run attempt on it; the trial as it ended, None where it was spare or no longer ours."""
        ended: list[FrozenTrial] = []
        taken: list[Claim] = []

        def objective(trial: optuna.Trial) -> float:
            claim = Claim(trial)
            taken.append(claim)
            if self._is_spare(claim) or not claim.note("owner", dataclasses.asdict(Owner.here())):
                raise optuna.TrialPruned
            return attempt(claim)

        try:
            self.study.optimize(
                objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)]
            )
        except Exception:  # a trial that others ended refuses to be told
            if not taken or self._is_running(taken[0].number):
                raise
        return next((_view(item) for item in ended if item.state != TrialState.PRUNED), None)

    def sweep(self) -> list[TrialView]:
        """Fail and requeue every attempt whose process is gone or silent; these attempts."""
        swept = [trial for trial in self.trials("RUNNING") if self._is_dead(trial) and self._fail(trial.number)]
        for trial in swept:
            self._after_death(trial)
        self._stale.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        for trial in self.lost(self.timing.claim):
            self.requeue(trial)
        return [*swept, *self._stale]

    def lost(self, age: float = 0.0) -> list[TrialView]:
        """Attempts without result or error that ended age seconds ago or earlier, their cells not queued again."""
        trials = self.trials()
        last = {trial.attributes["cell"]: trial for trial in trials}
        live = {trial.attributes["cell"] for trial in trials if trial.state in LIVE}
        stopped = [item for cell, item in last.items() if cell not in live and "error" not in item.attributes]
        return [item for item in stopped if _seconds_since(item.ended) >= age]

    def _is_spare(self, claim: Claim) -> bool:
        """Whether this trial names no cell, or one that another trial has."""
        cell = claim.attributes.get("cell")
        others = [item for item in self.trials(*LIVE) if item.attributes["cell"] == cell]
        earlier = [item for item in others if item.number < claim.number or item.state == "COMPLETE"]
        return cell is None or bool(earlier)

    def _is_dead(self, trial: TrialView) -> bool:
        owner = Owner.read(trial.attributes.get("owner"))
        if owner is not None:
            return owner.is_gone
        return _seconds_since(trial.started) > self.timing.claim

    def _fail(self, number: int) -> bool:
        """End a trial of another process; False where it has ended meanwhile."""
        try:
            self.study.tell(number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True

    def _after_stale(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
        view = _view(trial)
        if "cell" in view.attributes:
            self._stale.append(view)
            self._after_death(view)

    def _after_death(self, trial: TrialView) -> None:
        self.requeue(trial)
        self.on_dead(trial)

    def _is_running(self, number: int) -> bool:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(item.number == number for item in trials)


def create_queue(url: str) -> None:
    """Create the database where there is none: aside and renamed, so that a half-made one is never seen."""
    path = sqlite_path(url)
    if path is None or is_there(path):
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    storage = open_storage(f"sqlite:///{aside}", QueueTiming())
    storage.engine.dispose()
    aside.replace(path)


def open_storage(
    url: str, timing: QueueTiming, on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None
) -> RDBStorage:
    """Optuna's storage; on SQLite every transaction takes the write lock at its start, so that a claim is atomic."""
    is_sqlite = url.startswith("sqlite")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),
                engine_kwargs={"connect_args": {"timeout": timing.busy}} if is_sqlite else None,
                heartbeat_interval=timing.heartbeat,
                grace_period=timing.grace,
                heartbeat_stale_trial_callback=on_stale,
            )
    except (RuntimeError, ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise InputError(f"queue {url}: {str(error).splitlines()[0]}") from error
    if is_sqlite:
        storage.engine.dispose()
        sqlalchemy.event.listen(storage.engine, "connect", _leave_transactions_to_us)
        sqlalchemy.event.listen(storage.engine, "begin", _lock_at_once)
    return storage


def _leave_transactions_to_us(connection: Any, record: object) -> None:  # noqa: ANN401, ARG001
    connection.isolation_level = None


def _lock_at_once(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def trial_views(url: str, study: str) -> list[TrialView]:
    """The trials of a study as the reader of states takes them, for databases that are no SQLite files."""
    storage = open_storage(url, QueueTiming())
    if study not in {item.study_name for item in storage.get_all_studies()}:
        return []
    number = storage.get_study_id_from_name(study)
    void = storage.get_study_user_attrs(number).get(VOID, ())
    return [_view(trial) for trial in storage.get_all_trials(number, deepcopy=False) if trial.number not in void]


def study_names_of(url: str) -> list[str]:
    """The studies of a queue."""
    return [item.study_name for item in open_storage(url, QueueTiming()).get_all_studies()]


def _seconds_since(time: datetime | None) -> float:
    return (datetime.now() - time).total_seconds() if time else 0.0


def _view(trial: FrozenTrial) -> TrialView:
    epoch = trial.last_step or 0
    value = trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(epoch)
    times = (trial.datetime_start, trial.datetime_complete)
    return TrialView(trial.number, trial.state.name, trial.user_attrs, epoch, value, *times)
