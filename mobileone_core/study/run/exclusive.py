"""What runs on this machine at once: cells beside each other, a comparison with nothing else."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TextIO

import psutil

from mobileone_core.study.state import CellState, study_names, study_states
from mobileone_core.study.workspace import Workspace


def neighbours(workspace: Workspace, queue: str, key: str, patience: float) -> list[CellState]:
    """What a claimed cell or comparison has to wait for: attempts of this machine that it must not run beside.

    One of the two is a comparison, and the other began earlier, in any queue of the workspace: so nobody waits in a
    circle. On PostgreSQL two that begin within milliseconds may miss each other; the control then tells.
    patience: seconds within which an attempt names its process.
    """
    running = [
        (item.started, name, item)
        for name in study_names(workspace)
        for item in study_states(workspace, name)
        if item.state == "running" and item.started
    ]
    own = next((place for place in running if (place[1], place[2].key) == (queue, key)), None)
    if own is None:  # taken away; the next report says so
        return []
    earlier = [item for *place, item in running if (*place, item.key) < (own[0], queue, key)]
    return [item for item in earlier if "comparison" in (item.role, own[2].role) and _is_here(item, patience)]


def _is_here(item: CellState, patience: float) -> bool:
    """Whether an attempt runs on this machine, or may do."""
    if item.owner is None:
        return item.started is not None and (datetime.now() - item.started).total_seconds() < patience
    return item.owner.is_here and not item.owner.is_gone


@contextlib.contextmanager
def measuring(runs: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold this machine's lock of a runs directory, for comparisons whose queues are in different databases.

    It falls with its process. wait is called between two tries and sleeps; what it raises ends the waiting. A holder
    that was stopped (SIGSTOP) is not waited for: its trial is another's by then, and it ends where it wakes.
    """
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f".{socket.gethostname()}.lock"
    with path.open("a+") as lock:
        while not _is_taken(lock) and not _is_stopped(path):
            wait()
        yield


def _is_taken(lock: TextIO) -> bool:
    """Whether the lock is ours now; the file then names this process."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return True


def _is_stopped(path: Path) -> bool:
    """Whether the process that a lock's file names was stopped."""
    try:
        return bool(psutil.Process(int(path.read_text())).status() == psutil.STATUS_STOPPED)
    except (psutil.NoSuchProcess, ValueError):
        return False
