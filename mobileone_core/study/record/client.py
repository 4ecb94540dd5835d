"""MLflow's client with the patience that a shared database and a server that is away need."""

import contextlib
import functools
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mobileone_core.study.database import LOCK_TIMEOUT
from mobileone_core.study.process import environment_variables

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

SHORT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds
AWAY = re.compile(r"API request to \S+ failed with (timeout )?exception")  # after MLflow's own retries


class PatientClient:
    """An MlflowClient whose calls wait up to 120 s for a locked database; MLflow itself waits 20 s.

    wait: called between two tries while the tracking server is away; it sleeps, or raises to give up. Without it a
    call raises MLflow's error after MLflow's own retries, which take minutes.
    """

    def __init__(self, tracking: str, wait: Callable[[], None] | None = None) -> None:
        self._wait = wait
        self._client = self._retried(MlflowClient, tracking)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(self._retried, getattr(self._client, name))

    def offer(self, name: str, *arguments: Any, **options: Any) -> bool:
        """Call a method once. False if the tracking server is away."""
        return self._tried(getattr(self._client, name), *arguments, **options)[0]

    def _retried(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        while self._wait is not None:
            has_answered, answer = self._tried(call, *arguments, **options)
            if has_answered:
                return answer
            self._wait()
        return self._while_locked(call, *arguments, **options)

    def _tried(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[bool, Any]:
        """Whether the tracking server answered, and its answer; it, or its database, may be unable to serve."""
        try:
            with short_timeout():
                return True, self._while_locked(call, *arguments, **options)
        except MlflowException as error:
            if not AWAY.search(str(error)):
                raise
        return False, None

    @staticmethod
    def _while_locked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                return call(*arguments, **options)
            except MlflowException as error:
                if "database is locked" not in str(error) or time.monotonic() > end:
                    raise


def twice(call: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Call once more after an MlflowException, since another process may have inserted the row that MLflow missed."""
    try:
        call(*arguments, **named)
    except MlflowException:
        call(*arguments, **named)


def short_timeout() -> contextlib.AbstractContextManager[None]:
    """Give up on a server that does not answer within seconds; by default MLflow tries for minutes."""
    return environment_variables(**SHORT)
