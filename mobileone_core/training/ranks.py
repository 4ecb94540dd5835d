"""The processes of one cell: rank 0 is the one that asked, the others are its children and end with it."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from mobileone_core.errors import InputError
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.parallel import Group, joined

PATIENCE = 30.0  # seconds that the others may take to end once the work is done
START = 300.0  # seconds that one may take to import
NEWS = 5.0  # seconds from a broken connection to the words of the process that broke it

Body = Callable[..., object]  # body(rank, device, *arguments)


class Member(NamedTuple):
    """A process of rank 1 or more: first it says None, ready, and then, where it fails, why."""

    rank: int
    process: BaseProcess
    words: Connection


@contextlib.contextmanager
def other_ranks(
    count: int, device: torch.device, directory: Path, body: Body, arguments: Sequence[object]
) -> Iterator[None]:
    """Ranks 1 to count - 1 run body in processes of their own while the caller does rank 0's part on a device.

    None of them is left when this ends, however it ends. Where one fails, its InputError or TrainingFailed is raised;
    ChildProcessError where it was killed; for anything else that or RuntimeError.
    """
    if count == 1:
        yield
        return
    store = directory / f".ranks.{os.getpid()}"
    store.unlink(missing_ok=True)
    members: list[Member] = []
    try:
        for rank in range(1, count):
            members.append(_start(Group(rank, count, store), _placed(device, rank), body, arguments))
        for member in members:
            _meet(member)
        with _blaming(members), joined(Group(0, count, store), device):
            yield
            for member in members:
                member.process.join(PATIENCE)
    finally:
        for member in members:
            _kill(member.process)
        store.unlink(missing_ok=True)


def _start(group: Group, device: torch.device, body: Body, arguments: Sequence[object]) -> Member:
    """Forked from a server that has all imports done; on macOS, where torch does not survive a fork, afresh."""
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    context.set_forkserver_preload([__name__, body.__module__])
    words, mouth = context.Pipe(duplex=False)
    process = context.Process(target=_live, args=(group, device, mouth, body, arguments))  # type: ignore[attr-defined]
    process.start()
    mouth.close()
    return Member(group.rank, process, words)


def _placed(device: torch.device, rank: int) -> torch.device:
    """GPUs side by side, from rank 0's on."""
    return device if device.type == "cpu" else torch.device("cuda", device.index + rank)


def _live(group: Group, device: torch.device, words: Connection, body: Body, arguments: Sequence[object]) -> None:
    """Body of a process of rank 1 or more. What people should read, rank 0 says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 answers Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    words.send(None)
    with joined(group, device):
        try:
            body(group.rank, device, *arguments)
        except BaseException as error:  # said before the connections break, so that rank 0 finds it
            words.send(_sendable(error, group.rank))
            raise SystemExit(1) from None


def _sendable(error: BaseException, rank: int) -> BaseException:
    """What surely can be pickled: our own errors as they are, others in words."""
    if isinstance(error, InputError | TrainingFailed):
        return error
    kind = RuntimeError if _may_follow(error) else ChildProcessError
    return kind(f"rank {rank}: {type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _meet(member: Member) -> None:
    """Wait until a process has its imports done; ChildProcessError where it died of them or takes minutes."""
    if not connection.wait([member.words, member.process.sentinel], timeout=START):
        raise ChildProcessError(f"rank {member.rank} has not started within {START:.0f} s")
    try:
        member.words.recv()
    except EOFError:
        raise _death(member) from None


@contextlib.contextmanager
def _blaming(members: Sequence[Member]) -> Iterator[None]:
    """A connection that breaks raises a RuntimeError: the error of the process that broke it is raised instead."""
    try:
        yield
    except RuntimeError as error:
        cause = _failure(members) if _may_follow(error) else None
        if cause is None:
            raise
        raise cause from None


def _may_follow(error: BaseException) -> bool:
    """Whether an error may be no more than what another process's end looks like from here."""
    return isinstance(error, RuntimeError) and not isinstance(error, TrainingFailed)


def _failure(members: Sequence[Member]) -> BaseException | None:
    """What the others failed of, causes before consequences; None where nobody did."""
    connection.wait([item for member in members for item in (member.words, member.process.sentinel)], timeout=NEWS)
    errors = [error for member in members if (error := _last_words(member))]
    return min(errors, key=_may_follow, default=None)


def _last_words(member: Member) -> BaseException | None:
    try:
        if member.words.poll():
            return member.words.recv()  # type: ignore[no-any-return]
    except EOFError:
        return _death(member)
    return None if member.process.is_alive() else _death(member)


def _death(member: Member) -> ChildProcessError:
    """How a process ended that said nothing."""
    member.process.join(NEWS)
    code = member.process.exitcode or 0
    reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return ChildProcessError(f"rank {member.rank} died ({reason})")


def _kill(process: BaseProcess) -> None:
    """End a process and those that decode images for it."""
    if process.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
    process.join()
