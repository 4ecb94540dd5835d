"""Worker processes of a run, replaced when they die."""

import contextlib
import itertools
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from mobileone_core.errors import InputError, refusing
from mobileone_core.study.process import environment_variables
from mobileone_core.study.workspace import Job
from mobileone_core.training.cell import CellSpec

WORKER_MODULE = "mobileone_core.study.run.worker"
MAX_REPLACEMENTS = 3  # workers that may die in one run and be replaced
OURS = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # Ctrl-C and a cluster's signals: the parent handles them
STOP_TIMEOUT = 20.0  # seconds from SIGTERM to SIGKILL; one step of a large network may take long


class WorkerPool:
    """Worker processes of one job, by index.

    Constructing a pool starts a fork server that imports the heavy packages in the background. On macOS, where torch
    does not survive a fork, workers are spawned instead.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.replacements_left = MAX_REPLACEMENTS
        self.workers: dict[int, tuple[BaseProcess, Connection]] = {}  # with the pipe that says why a worker had to end
        self._context = _context(job)

    def start(self, count: int) -> None:
        """Start workers. Each takes the lowest free index, so that a replacement gets the GPU of the dead worker."""
        from mobileone_core.study.run.worker import work

        for _ in range(count):
            index = next(number for number in itertools.count() if number not in self.workers)
            self._launch(work, index, index)

    def _launch(self, target: Callable[..., None], argument: object, index: int | None = None) -> Connection:
        """Start target(job, argument, sender), a worker if index is given, and return the receiver."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(self.job, argument, sender))
        if index is not None:  # before it starts, so that an interrupt cannot lose it
            self.workers[index] = (process, receiver)
        with signals_to(signal.SIG_IGN, OURS) if isinstance(self._context, SpawnContext) else contextlib.nullcontext():
            try:
                process.start()
            except (EOFError, ConnectionError):  # the fork server has just been killed: a new one takes its place
                with refusing("a worker process cannot be started, perhaps for want of memory"):
                    process.start()
        sender.close()
        return receiver

    def check(self, cells: Sequence[CellSpec]) -> list[str]:
        """Notes on what the cells start from; raises InputError if one cannot run here. A process of its own checks."""
        from mobileone_core.study.run.worker import probe

        receiver = self._launch(probe, cells)
        with contextlib.suppress(EOFError):
            answer = receiver.recv()
            if isinstance(answer, str):
                raise InputError(answer)
            return list(answer)
        return []

    def wait(self, seconds: float) -> None:
        """Wait until a worker ends, or until the time is over."""
        connection.wait([process.sentinel for process, _ in self.workers.values()], timeout=seconds)

    def reap(self) -> list[str]:
        """Remove the workers that have ended; returns one line per worker that died, with its reason."""
        lines = []
        for index in [index for index, (process, _) in self.workers.items() if not process.is_alive()]:
            process, receiver = self.workers.pop(index)
            if process.exitcode:
                lines.append(f"worker {process.pid} died ({_cause_of_death(receiver, process.exitcode)})")
            receiver.close()
        return lines

    def replace(self, dead: int) -> None:
        """Start replacements for dead workers, MAX_REPLACEMENTS in all."""
        count = min(dead, self.replacements_left)
        self.replacements_left -= count
        self.job = replace(self.job, setup=replace(self.job.setup, command_start=0.0))  # their first step says nothing
        self.start(count)

    def stop(self) -> None:
        """Terminate all workers and kill those that outlive STOP_TIMEOUT. A second Ctrl-C kills them at once."""
        processes = [process for process, _ in self.workers.values() if process.pid]
        with contextlib.suppress(KeyboardInterrupt):
            for process in processes:
                process.terminate()
            _join(processes, STOP_TIMEOUT)
        for process in processes:
            process.kill()
        _join(processes, STOP_TIMEOUT)


def _context(job: Job) -> ForkServerContext | SpawnContext:
    if sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WORKER_MODULE, job.setup.engine.preload.partition(":")[0]])
    # without it the server imports a random.py of the current directory as Python's
    with environment_variables(PYTHONSAFEPATH="1"), signals_to(signal.SIG_IGN, OURS):
        forkserver.ensure_running()
    return context


def _join(processes: Sequence[BaseProcess], seconds: float) -> None:
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))


def _cause_of_death(receiver: Connection, exitcode: int) -> str:
    """The worker's own last message, or else its signal or exit status."""
    with contextlib.suppress(EOFError, OSError):
        if receiver.poll():
            return str(receiver.recv())
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


@contextlib.contextmanager
def signals_to(handler: Callable[..., object] | signal.Handlers, signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Give signals to a handler, then restore the earlier ones; processes started meanwhile inherit SIG_IGN alone."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
