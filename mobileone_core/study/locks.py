"""Locks of a workspace: one planner at a time, one comparison per machine at a time.

Every lock is released when its process dies.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import psutil

from mobileone_core.errors import InputError

ADVISORY_KEY = 0x6D6F62696C65  # key of the planner's advisory lock in PostgreSQL


@contextlib.contextmanager
def planning(runs: Path, url: str) -> Iterator[None]:
    """Hold the planner's locks: a file in the runs directory, then an advisory lock of the database at url.

    Half-made database files of planners that were killed are deleted. Raises InputError if the runs directory cannot be
    written, and SQLAlchemy's errors if the database server cannot be used.
    """
    path = runs / ".planner.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError as error:
        raise InputError(f"runs: cannot write to {str(runs)!r} ({error.strerror})") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished in runs.glob(".*.new*"):
            unfinished.unlink(missing_ok=True)
        with advisory_lock(url):
            yield


@contextlib.contextmanager
def advisory_lock(url: str) -> Iterator[None]:
    """On PostgreSQL, make planners of other machines wait; no lock on any other database."""
    if not url.startswith("postgresql"):
        yield
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(ADVISORY_KEY)))
            yield
    finally:
        engine.dispose()


@contextlib.contextmanager
def measuring(runs: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold this machine's lock for comparisons, across all queues of a runs directory, which is created if missing.

    wait is called between two tries; it sleeps, or raises to give up. A holder stopped by SIGSTOP blocks nobody: its
    trial belongs to another worker by then, and it ends when it wakes up.
    """
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f".{socket.gethostname()}.lock"
    with path.open("a+") as lock:
        while not _acquire(lock) and not _is_holder_stopped(path):
            wait()
        yield


def _acquire(lock: TextIO) -> bool:
    """Try to take a file's lock without blocking, and write this process's id to the file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return True


def _is_holder_stopped(path: Path) -> bool:
    """Whether the process named in a lock file was stopped by SIGSTOP."""
    try:
        return bool(psutil.Process(int(path.read_text())).status() == psutil.STATUS_STOPPED)
    except (psutil.NoSuchProcess, ValueError):
        return False
