"""The worker processes of a run, replaced when they die; where a fork is safe, one server has all imports done."""

import contextlib
import itertools
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from mobileone_core.errors import InputError
from mobileone_core.study.job import Job
from mobileone_core.training.cell import CellSpec

BODY = "mobileone_core.study.run.worker"
SPARE = 3  # workers that may die in one run and be replaced
PATIENCE = 20.0  # seconds from SIGTERM to SIGKILL; a step of a large network may take long


class Member(NamedTuple):
    """A worker process and the end of the pipe that its last words come from."""

    process: BaseProcess
    words: Connection


class Team:
    """Up to count workers on one job, by index; building a team starts the imports in the background."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.spare = SPARE
        self.members: dict[int, Member] = {}
        self._context = _context(job)

    def start(self, count: int) -> None:
        """Start workers; each gets the lowest index that none has, so that a new one takes a dead one's place."""
        from mobileone_core.study.run.worker import work

        for _ in range(count):
            index = next(number for number in itertools.count() if number not in self.members)
            words, mouth = self._context.Pipe(duplex=False)
            process = self._context.Process(target=work, args=(self.job, index, mouth))
            self.members[index] = Member(process, words)
            self._launch(process)
            mouth.close()

    def _launch(self, process: BaseProcess) -> None:
        with _deaf_to_interrupts() if isinstance(self._context, SpawnContext) else contextlib.nullcontext():
            process.start()

    def check(self, cells: Sequence[CellSpec]) -> None:
        """InputError where one of these cells could not run on this machine, before one is tried."""
        from mobileone_core.study.run.worker import probe

        words, mouth = self._context.Pipe(duplex=False)
        self._launch(self._context.Process(target=probe, args=(self.job, cells, mouth)))
        mouth.close()
        with contextlib.suppress(EOFError):
            message = words.recv()
            if message:
                raise InputError(message)

    def rest(self, seconds: float) -> None:
        """Wait until a worker ends, seconds at most."""
        connection.wait([member.process.sentinel for member in self.members.values()], timeout=seconds)

    def bury(self) -> list[str]:
        """Forget the workers that have ended; what the dead ones have to say, a line each."""
        lines = []
        for index in [index for index, member in self.members.items() if not member.process.is_alive()]:
            process, words = self.members.pop(index)
            if process.exitcode:
                lines.append(f"worker {process.pid} died ({_last_words(words, process.exitcode)})")
            words.close()
        return lines

    def replace(self, lost: int) -> None:
        """Start new workers for lost ones, as far as the spare ones reach."""
        count = min(lost, self.spare)
        self.spare -= count
        self.start(count)

    def stop(self, patience: float = PATIENCE) -> None:
        """Ask every worker to end, wait, then kill; a second Ctrl-C kills at once."""
        members = [member.process for member in self.members.values() if member.process.pid]
        try:
            for member in members:
                member.terminate()
            _wait_for(members, patience)
        except KeyboardInterrupt:
            pass
        finally:
            for member in members:
                member.kill()
            _wait_for(members, patience)


def _context(job: Job) -> ForkServerContext | SpawnContext:
    """A server that imports in the background and forks; on macOS, where torch does not survive a fork, none."""
    if sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([BODY, job.setup.engine.preload.partition(":")[0]])
    with _deaf_to_interrupts():
        forkserver.ensure_running()
    return context


def _wait_for(members: Sequence[BaseProcess], seconds: float) -> None:
    end = time.monotonic() + seconds
    for member in members:
        member.join(max(0.0, end - time.monotonic()))


def _last_words(words: Connection, exitcode: int) -> str:
    try:
        if words.poll():
            return str(words.recv())
    except (EOFError, OSError):
        pass
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which is the parent's to answer."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
