"""What the processes that train one cell together say to each other; without others, nothing."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from mobileone_core.model.folded.ranks import has_others

LIMIT = timedelta(minutes=10)  # until a process that neither answers nor dies counts as lost


class Group(NamedTuple):
    """One process of several: its rank, how many there are, and the file in which they find each other."""

    rank: int
    ranks: int
    store: Path


@contextlib.contextmanager
def joined(group: Group, device: torch.device) -> Iterator[None]:
    """Meet the other processes: over loopback for a CPU, by NCCL for GPUs. Waits until all are there."""
    if device.type == "cpu":
        os.environ["GLOO_SOCKET_IFNAME"] = _loopback()
    backend = "gloo" if device.type == "cpu" else "nccl"
    place = group.store.absolute().as_uri()
    try:
        dist.init_process_group(backend, place, rank=group.rank, world_size=group.ranks, timeout=LIMIT)
    except BaseException:
        dist.distributed_c10d._world.group_count = 0  # it numbers groups; the others of the next one count from 0
        raise
    try:
        yield
    except BaseException:
        dist.group.WORLD.abort()  # type: ignore[union-attr]
        raise
    finally:
        dist.destroy_process_group()


def data_parallel(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The forward to train by: backward averages the gradients over all processes (PyTorch's DDP).

    BatchNorm normalizes by the statistics of each process's own images, and the running ones that count are rank 0's,
    unless the network is synchronized (model/network.py).
    """
    if not has_others():
        return network.__call__
    device = next(network.parameters()).device
    parallel = DistributedDataParallel(network, None if device.type == "cpu" else [device.index])
    if device.type == "cpu":
        parallel.register_comm_hook(None, _mean_in_order)
    return parallel.__call__


def _mean_in_order(_: object, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]
    """Adds gradients up from rank 0 to the last. In gloo's all-reduce the order follows from the place in a bucket,
    and DDP forms other buckets after its first step, so that three processes would not resume bit by bit."""
    shares = [torch.empty_like(bucket.buffer()) for _ in range(dist.get_world_size())]

    def mean(gathered: Future[list[Tensor]]) -> Tensor:
        gathered.wait()  # raises where a connection broke
        return functools.reduce(torch.add, shares) / len(shares)

    return dist.all_gather(shares, bucket.buffer(), async_op=True).get_future().then(mean)


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over all processes, of values of the same shape."""
    if has_others():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def take_buffers(network: nn.Module) -> None:
    """Rank 0's buffers for all: what a network is evaluated with; those that DDP sends before a step are older."""
    if has_others():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def _loopback() -> str:
    """The name of the network interface that no other machine can reach."""
    addresses = psutil.net_if_addrs().items()
    return next(str(name) for name, known in addresses if any(item.address == "127.0.0.1" for item in known))
