"""The worker processes of a run: started from one server that has all imports done, replaced when they die."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from mobileone_core.study.job import Job

BODY = "mobileone_core.study.worker"
SPARE = 3  # workers that may die in one run and be replaced
PATIENCE = 20.0  # seconds from SIGTERM to SIGKILL; a step of a large network may take long


class Team:
    """Up to count workers on one job; building a team starts the imports in the background."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.spare = SPARE
        self.members: dict[ForkServerProcess, Connection] = {}
        self._started = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([BODY, job.engine.train.partition(":")[0]])
        with _deaf_to_interrupts():  # inherited: Ctrl-C is the parent's to answer
            forkserver.ensure_running()

    def start(self, count: int) -> None:
        """Start workers."""
        from mobileone_core.study.worker import work

        for _ in range(count):
            words, mouth = self._context.Pipe(duplex=False)
            member = self._context.Process(target=work, args=(self.job, self._started, mouth))
            self._started += 1
            self.members[member] = words
            member.start()
            mouth.close()

    def rest(self, seconds: float) -> None:
        """Wait until a worker ends, seconds at most."""
        connection.wait([member.sentinel for member in self.members], timeout=seconds)

    def bury(self) -> list[str]:
        """Forget the workers that have ended; what the dead ones have to say, a line each."""
        lines = []
        for member in [item for item in self.members if not item.is_alive()]:
            words = self.members.pop(member)
            if member.exitcode:
                lines.append(f"worker {member.pid} died ({_last_words(words, member.exitcode)})")
            words.close()
        return lines

    def replace(self, lost: int) -> int:
        """Start new workers for lost ones, as far as the spare ones reach; how many."""
        count = min(lost, self.spare)
        self.spare -= count
        self.start(count)
        return count

    def stop(self, patience: float = PATIENCE) -> None:
        """Ask every worker to end, wait, then kill; a second Ctrl-C kills at once."""
        members = [member for member in self.members if member.pid]
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


def _wait_for(members: Sequence[ForkServerProcess], seconds: float) -> None:
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
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
