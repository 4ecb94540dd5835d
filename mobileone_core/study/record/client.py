"""MLflow's client with the patience that a shared database needs."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mobileone_core.study.database import LOCK_TIMEOUT

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds


class PatientClient:
    """An MlflowClient whose calls wait up to 120 s for a locked database; MLflow itself waits 20 s."""

    def __init__(self, tracking: str) -> None:
        self._client = self._retried(MlflowClient, tracking)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(self._retried, getattr(self._client, name))

    @staticmethod
    def _retried(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                return call(*arguments, **options)
            except MlflowException as error:
                if "database is locked" not in str(error) or time.monotonic() > end:
                    raise


@contextlib.contextmanager
def short_timeout() -> Iterator[None]:
    """Give up on a server that does not answer within seconds; by default MLflow tries for minutes."""
    before = {name: os.environ.get(name) for name in FIRST_CALL}
    os.environ.update(FIRST_CALL)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name)
            os.environ.update({} if text is None else {name: text})
