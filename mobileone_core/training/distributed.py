"""Data-parallel training of one cell: child processes for ranks 1 and up, and what all ranks exchange.

Rank 0 is the calling process. The child processes never outlive it.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from mobileone_core.errors import InputError
from mobileone_core.model.folded.distributed import has_other_ranks
from mobileone_core.training.observer import TrainingFailed

GROUP_TIMEOUT = timedelta(minutes=10)  # until a process that neither answers nor dies counts as lost
START_TIMEOUT = 300.0  # seconds that a process may take to import
EXIT_TIMEOUT = 30.0  # seconds that the others may take to end once the work is done
ERROR_TIMEOUT = 5.0  # seconds from a broken connection to the error report of the process that broke it

RankFunction = Callable[..., object]  # function(rank, device, *arguments)


class GroupMember(NamedTuple):
    """Place of a process in a group: its rank, the number of ranks, and the file through which they connect."""

    rank: int
    ranks: int
    store: Path


class RankProcess(NamedTuple):
    """A child process. Its connection delivers None when the process is ready and an error if it fails."""

    rank: int
    process: BaseProcess
    receiver: Connection


@contextlib.contextmanager
def other_ranks(
    count: int, device: torch.device, directory: Path, function: RankFunction, arguments: Sequence[object]
) -> Iterator[None]:
    """Run function(rank, device, *arguments) in child processes for ranks 1 to count - 1.

    Inside the with block the caller is rank 0, on device; the others use the CPU or the next GPUs. They connect
    through a file in directory. However the block ends, no child is left. A child's InputError or TrainingFailed is
    raised here; a killed child raises ChildProcessError; any other failure ChildProcessError or RuntimeError.
    """
    if count == 1:
        yield
        return
    store = directory / f".ranks.{os.getpid()}"
    store.unlink(missing_ok=True)
    children: list[RankProcess] = []
    try:
        for rank in range(1, count):
            child_device = device if device.type == "cpu" else torch.device("cuda", device.index + rank)
            children.append(_start(GroupMember(rank, count, store), child_device, function, arguments))
        for child in children:
            _await_start(child)
        with _raise_cause(children), process_group(GroupMember(0, count, store), device):
            yield
            for child in children:
                child.process.join(EXIT_TIMEOUT)
    finally:
        for child in children:
            _kill(child.process)
        store.unlink(missing_ok=True)


@contextlib.contextmanager
def process_group(member: GroupMember, device: torch.device) -> Iterator[None]:
    """Join torch.distributed's default group: gloo over loopback on a CPU, NCCL on GPUs. Waits for all ranks."""
    if device.type == "cpu":
        addresses = [(name, item.address) for name, items in psutil.net_if_addrs().items() for item in items]
        os.environ["GLOO_SOCKET_IFNAME"] = next(name for name, address in addresses if address == "127.0.0.1")
    backend = "gloo" if device.type == "cpu" else "nccl"
    # Not by a file:// URL, whose path torch does not unquote.
    store = dist.FileStore(str(member.store), member.ranks)  # type: ignore[attr-defined]
    store.set_timeout(GROUP_TIMEOUT)
    try:
        dist.init_process_group(backend, rank=member.rank, world_size=member.ranks, timeout=GROUP_TIMEOUT, store=store)
    except BaseException:
        dist.distributed_c10d._world.group_count = 0  # it numbers groups; the other ranks of the next one count from 0
        raise
    try:
        yield
    except BaseException:
        dist.group.WORLD.abort()  # type: ignore[union-attr]
        raise
    finally:
        dist.destroy_process_group()


def data_parallel(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network's forward for training, whose backward averages the gradients over all ranks (PyTorch's DDP).

    BatchNorm normalizes by each rank's own images and rank 0's running statistics count, unless the network has
    sync_batchnorm set (model/network.py). With a single rank it is the plain forward.
    """
    if not has_other_ranks():
        return network.__call__
    device = next(network.parameters()).device
    parallel = DistributedDataParallel(network, None if device.type == "cpu" else [device.index])
    if device.type == "cpu":
        parallel.register_comm_hook(None, _mean_in_rank_order)
    return parallel.__call__


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks."""
    if has_other_ranks():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def broadcast_buffers(network: nn.Module) -> None:
    """Copy rank 0's buffers to all ranks before an evaluation; those that DDP sends before a step are older."""
    if has_other_ranks():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def _mean_in_rank_order(_: object, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]
    """Add gradients from rank 0 to the last. In gloo's all-reduce the order depends on the position in a bucket, and
    DDP forms other buckets after its first step, so that three ranks would not resume bit by bit."""
    shares = [torch.empty_like(bucket.buffer()) for _ in range(dist.get_world_size())]

    def mean(gathered: Future[list[Tensor]]) -> Tensor:
        gathered.wait()  # raises if a connection broke
        return functools.reduce(torch.add, shares) / len(shares)

    return dist.all_gather(shares, bucket.buffer(), async_op=True).get_future().then(mean)


def _start(
    member: GroupMember, device: torch.device, function: RankFunction, arguments: Sequence[object]
) -> RankProcess:
    """Fork from a server that has imported everything; on macOS, where torch does not survive a fork, spawn."""
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    context.set_forkserver_preload([__name__, function.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_rank, args=(member, device, sender, function, arguments))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    return RankProcess(member.rank, process, receiver)


def _run_rank(
    member: GroupMember, device: torch.device, sender: Connection, function: RankFunction, arguments: Sequence[object]
) -> None:
    """Main function of a child process. Warnings are left to rank 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 answers Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    sender.send(None)
    with process_group(member, device):
        try:
            function(member.rank, device, *arguments)
        except BaseException as error:  # sent before the connections break, so that rank 0 can read it
            report = error
            if not isinstance(error, InputError | TrainingFailed):  # it may not be picklable
                report_type = RuntimeError if _may_be_consequence(error) else ChildProcessError
                report = report_type(f"rank {member.rank}: {type(error).__name__}: {error}")
            sender.send(report)
            raise SystemExit(1) from None


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _await_start(child: RankProcess) -> None:
    """Wait until a child has finished its imports; ChildProcessError if it died or takes minutes."""
    if not connection.wait([child.receiver, child.process.sentinel], timeout=START_TIMEOUT):
        raise ChildProcessError(f"rank {child.rank} has not started within {START_TIMEOUT:.0f} s")
    if error := _error_of(child):
        raise error


@contextlib.contextmanager
def _raise_cause(children: Sequence[RankProcess]) -> Iterator[None]:
    """Replace the RuntimeError of a broken connection by the error of the child that broke it."""
    try:
        yield
    except RuntimeError as error:
        if not _may_be_consequence(error):
            raise
        events = [item for child in children for item in (child.receiver, child.process.sentinel)]
        connection.wait(events, timeout=ERROR_TIMEOUT)
        errors = [failure for child in children if (failure := _error_of(child))]
        raise min(errors, key=_may_be_consequence, default=error) from None


def _may_be_consequence(error: BaseException) -> bool:
    """Whether an error may only reflect another process's end."""
    return isinstance(error, RuntimeError) and not isinstance(error, TrainingFailed)


def _error_of(child: RankProcess) -> BaseException | None:
    """The error that a child reported or died of; None while it is well."""
    with contextlib.suppress(EOFError):
        if child.receiver.poll():
            return child.receiver.recv()  # type: ignore[no-any-return]
        if child.process.is_alive():
            return None
    return _death(child)


def _death(child: RankProcess) -> ChildProcessError:
    """The error for a child that ended without a report."""
    child.process.join(ERROR_TIMEOUT)
    code = child.process.exitcode or 0
    reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return ChildProcessError(f"rank {child.rank} died ({reason})")


def _kill(process: BaseProcess) -> None:
    """Kill a process and its data-loading children."""
    if process.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
    process.join()
