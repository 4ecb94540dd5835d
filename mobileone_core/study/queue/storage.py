"""Optuna's databases: opened so that a claim is atomic, created whole or not at all, read as plain trials."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from mobileone_core.study.database import create_file, database_error, has_table
from mobileone_core.study.queue.trials import VOID, TrialView
from mobileone_core.study.workspace import QueueTiming

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

SERVER_OPTIONS = {"pool_pre_ping": True}  # firewalls drop connections that are idle for an epoch
QUEUE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ImportError)
# Errors of a server that is away, and of the transaction that it left open.
AWAY = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
RETRY = 1.0  # seconds between two tries
STORAGES: dict[str, BaseStorage] = {}  # of this process, for reading, by URL
StaleCallback = Callable[[optuna.Study, FrozenTrial], None]


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait for a server that restarts, up to `patience` seconds.

    Optuna's thread for heartbeats ends at the first error, and other workers take the cell for dead. Here an error
    costs one heartbeat.
    """

    patience = 0.0

    def record_heartbeat(self, trial_id: int) -> None:
        """Record a heartbeat, or none if the database cannot be used."""
        with contextlib.suppress(*QUEUE_ERRORS):
            super().record_heartbeat(trial_id)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return partial(self._waiting, value) if name in CALLS else value

    def _waiting(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + self.patience
        while True:
            try:
                return call(*arguments, **options)
            except (StorageInternalError, *AWAY) as error:
                is_away = isinstance(error, AWAY) or isinstance(error.__cause__, AWAY)
                if not is_away or time.monotonic() > end:
                    raise
            self.remove_session()  # else it refuses everything until its lost transaction is rolled back
            time.sleep(RETRY)

    def trial_states(self, study_id: int) -> list[tuple[int, int, str]]:
        """Id, number and state of all trials of a queue, in the order of their numbers; cheap for thousands."""
        query = sqlalchemy.text("SELECT trial_id, number, state FROM trials WHERE study_id = :study_id ORDER BY number")
        with self.engine.connect() as connection:
            return [(row.trial_id, row.number, row.state) for row in connection.execute(query, {"study_id": study_id})]


# What waits; Optuna's cache calls those that begin with "_".
CALLS = {name for name in vars(BaseStorage) if name.startswith(("create_", "set_", "get_"))}
CALLS |= {"trial_states", "_get_stale_trial_ids", "_get_trials", "_create_new_trial"}


def create_queue(url: str) -> None:
    """Create an SQLite queue if it does not exist."""
    create_file(url, lambda new: open_storage(new, QueueTiming(), create=True).engine.dispose())


def open_storage(
    url: str, timing: QueueTiming, on_stale: StaleCallback | None = None, *, create: bool = False
) -> PatientStorage:
    """Open Optuna's storage. On SQLite every transaction takes the write lock when it begins: claims are atomic.

    Tables are created only if create is true. Raises InputError if the database cannot be used.
    """
    is_sqlite = url.startswith("sqlite")
    sqlite_options = {"timeout": timing.busy, "isolation_level": None}  # no transactions but those that begin below
    try:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            storage = PatientStorage(
                url.replace("{", "{{").replace("}", "}}"),
                engine_kwargs={"connect_args": sqlite_options} if is_sqlite else SERVER_OPTIONS,
                heartbeat_interval=timing.heartbeat,
                grace_period=timing.grace,
                heartbeat_stale_trial_callback=on_stale,
                skip_table_creation=not create,
            )
    except (RuntimeError, *QUEUE_ERRORS) as error:
        raise database_error("queue", url, error) from error
    storage.patience = 0.0 if is_sqlite else timing.busy  # SQLite itself waits for locks
    if is_sqlite:
        sqlalchemy.event.listen(storage.engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def trial_views(url: str, study: str) -> list[TrialView]:
    """Trials of a queue in any database, without the void ones; empty if the queue does not exist."""
    with _reading(url) as storage:
        if storage is None or study not in {item.study_name for item in storage.get_all_studies()}:
            return []
        study_id = storage.get_study_id_from_name(study)
        void = storage.get_study_user_attrs(study_id).get(VOID, ())
        trials = storage.get_all_trials(study_id, deepcopy=False)
        return [trial_view(trial) for trial in trials if trial.number not in void]


def study_names_of(url: str) -> list[str]:
    """Names of the queues in any database; empty if it holds no tables."""
    with _reading(url) as storage:
        return [item.study_name for item in storage.get_all_studies()] if storage else []


@contextlib.contextmanager
def _reading(url: str) -> Iterator[BaseStorage | None]:
    """This process's storage for reading, opened once; None before a planner has created the tables."""
    try:
        if url not in STORAGES and has_table("queue", url, "alembic_version"):
            STORAGES[url] = get_storage(open_storage(url, QueueTiming()))
        yield STORAGES.get(url)
    except QUEUE_ERRORS as error:
        raise database_error("queue", url, error) from error


def trial_view(trial: FrozenTrial) -> TrialView:
    """Optuna's trial as plain data; its value is the last epoch's until it is complete."""
    epoch = trial.last_step or 0
    value = trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(epoch)
    value = None if value is None or math.isnan(value) else value
    times = (trial.datetime_start, trial.datetime_complete)
    return TrialView(trial.number, trial.state.name, trial.user_attrs, epoch, value, *times)
