"""Torch on the CPU, operator by operator, and functions shared by the compiled and CUDA runtimes."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mobileone_core.latency.cell import Runtime
from mobileone_core.latency.runtimes.session import Opener, Session, SessionSource

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def prepare(source: SessionSource) -> Opener:
    """Every session copies the network."""
    return lambda: cpu_session(*prepare_network(source), source.runtime)


def prepare_network(source: SessionSource, device: str = "cpu") -> tuple[nn.Module, Tensor]:
    """A copy of the network and its images on a device, in the runtime's precision and layout."""
    dtype, layout = DTYPES[source.runtime.precision], LAYOUTS[source.runtime.layout]
    network = copy.deepcopy(source.network).to(device, dtype).to(memory_format=layout)
    return network, source.images.to(device, dtype).contiguous(memory_format=layout)


def cpu_session(network: Callable[[Tensor], Tensor], images: Tensor, runtime: Runtime) -> Session:
    """A session whose calls set torch's number of threads for the process if another session changed it."""
    threads = runtime.threads

    def call() -> Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return network(images)

    tags = {
        "runtime_version": f"torch {torch.__version__}",
        "provider": "cpu",
        "threads": str(threads),
        "precision": str(images.dtype).removeprefix("torch."),
        "layout": runtime.layout,
    }
    return Session(call, lambda: call().float().cpu(), tags)
