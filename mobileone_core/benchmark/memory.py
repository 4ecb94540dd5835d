"""Memory of a call: its peak, counted from torch's allocations, and what autograd saves for the backward."""

import itertools
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import profiler

from mobileone_core.benchmark.interleave import collection_off


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Peak of the bytes that torch allocates on the device during a call, above those allocated before.

    Working buffers of torch's kernels count; memory that a library takes from the system itself does not. The result is
    the same every time.
    """
    with collection_off():
        return _peak_on_gpu(call, device) if device.type == "cuda" else _peak_on_cpu(call)


def _peak_on_gpu(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(call: Callable[[], object]) -> int:
    """The highest running sum of the profiler's allocations (positive) and releases (negative)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to standard error
    with profiler.profile(profile_memory=True) as profile:
        call()
    assert profile.kineto_results is not None
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((int(event.nbytes()) for event in events), initial=0))


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd saves during a forward pass for the backward pass.

    Every storage counts once and whole; storages of the parameters do not count. All of it is released afterwards.
    """
    excluded = {value.untyped_storage().data_ptr() for value in parameters}
    saved: dict[int, Tensor] = {}  # tensors stay alive, so that no other storage gets the same address

    def pack(value: Tensor) -> Tensor:
        # detached: a node that held its own output would keep the whole graph alive
        detached = value.detach()
        pointer = value.untyped_storage().data_ptr()
        if pointer not in excluded:
            saved[pointer] = detached
        return detached

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        forward()
    return sum(value.untyped_storage().nbytes() for value in saved.values())
