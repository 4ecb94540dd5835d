"""Optuna's databases: opened so that a claim is atomic, made whole or not at all, and read by others' URLs."""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from mobileone_core.study.database import database_error, database_exists, has_table, sqlite_path
from mobileone_core.study.job import QueueTiming
from mobileone_core.study.queue.trials import VOID, TrialView

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

SERVER_OPTIONS = {"pool_pre_ping": True}  # firewalls drop connections that stay idle for an epoch
QUEUE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ImportError)
_READ: dict[str, BaseStorage] = {}  # by URL


def create_queue(url: str) -> None:
    """Create the database where there is none: aside and renamed, so that a half-made one is never seen."""
    path = sqlite_path(url)
    if path is None or database_exists(path):
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    storage = open_storage(f"sqlite:///{aside}", QueueTiming(), create=True)
    storage.engine.dispose()
    aside.replace(path)


def open_storage(
    url: str,
    timing: QueueTiming,
    on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None,
    *,
    create: bool = False,
) -> RDBStorage:
    """Optuna's storage; on SQLite every transaction takes the write lock at its start, so that a claim is atomic.

    Tables are created on demand alone. InputError where the database cannot be used.
    """
    is_sqlite = url.startswith("sqlite")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),
                engine_kwargs={"connect_args": {"timeout": timing.busy}} if is_sqlite else SERVER_OPTIONS,
                heartbeat_interval=timing.heartbeat,
                grace_period=timing.grace,
                heartbeat_stale_trial_callback=on_stale,
                skip_table_creation=not create,
            )
    except (RuntimeError, *QUEUE_ERRORS) as error:
        raise database_error("queue", url, error) from error
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
    with _reading(url) as storage:
        if storage is None or study not in {item.study_name for item in storage.get_all_studies()}:
            return []
        number = storage.get_study_id_from_name(study)
        void = storage.get_study_user_attrs(number).get(VOID, ())
        return [
            trial_view(trial) for trial in storage.get_all_trials(number, deepcopy=False) if trial.number not in void
        ]


def study_names_of(url: str) -> list[str]:
    """The studies of a queue."""
    with _reading(url) as storage:
        return [item.study_name for item in storage.get_all_studies()] if storage else []


@contextlib.contextmanager
def _reading(url: str) -> Iterator[BaseStorage | None]:
    """A storage that this process reads again and again; None before a planner has made it."""
    try:
        if url not in _READ and has_table("queue", url, "alembic_version"):
            _READ[url] = get_storage(open_storage(url, QueueTiming()))
        yield _READ.get(url)
    except QUEUE_ERRORS as error:
        raise database_error("queue", url, error) from error


def trial_view(trial: FrozenTrial) -> TrialView:
    """A trial as all readers of states see it."""
    epoch = trial.last_step or 0
    value = trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(epoch)
    value = None if value is None or math.isnan(value) else value
    times = (trial.datetime_start, trial.datetime_complete)
    return TrialView(trial.number, trial.state.name, trial.user_attrs, epoch, value, *times)
