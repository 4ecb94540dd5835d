"""Torch on a CUDA device, operator by operator or as one captured graph, timed by the device's own events."""

from collections.abc import Callable

import torch
from torch import Tensor

from mobileone_core.latency.runtimes.session import Opener, Session, SessionSource
from mobileone_core.latency.runtimes.torch_eager import prepare_network

WARMUP = 3  # calls on the capturing stream: libraries allocate what must not happen inside a graph


def prepare(source: SessionSource) -> Opener:
    """Every session copies the network to the device; cuda_graph also captures it as a graph."""
    return lambda: _opened(source)


def _opened(source: SessionSource) -> Session:
    """A session timed by CUDA events."""
    network, images = prepare_network(source, "cuda")

    def infer() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(images)
        return logits

    launch = _captured(infer) if source.runtime.name == "cuda_graph" else infer
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def call() -> Tensor:
        logits = launch()
        torch.cuda.synchronize()
        return logits

    def timer() -> float:
        start.record()
        launch()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    tags = {
        "runtime_version": f"torch {torch.__version__}",
        "provider": torch.cuda.get_device_name(),
        "precision": str(images.dtype).removeprefix("torch."),
        "layout": source.runtime.layout,
    }
    return Session(call, lambda: call().float().cpu(), tags, timer)


def _captured(infer: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """infer as one CUDA graph; its result is in the same memory each time."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            infer()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = infer()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay
