"""Torch on the CPU, operator by operator or compiled by inductor, and on a CUDA device, by operator or as one graph."""

import copy
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor, nn

from mobileone_core.latency.runtimes import Opener, Session, SessionSource, UnmeasuredError

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WARMUP = 3  # calls on the capturing stream: libraries allocate what must not happen inside a graph


def prepare(source: SessionSource) -> Opener:
    """Every session copies the network, and compiles or captures it. Raises UnmeasuredError without a C++ compiler."""
    if source.runtime.name.startswith("cuda"):
        return lambda: _cuda_session(source)
    if source.runtime.name == "torch_compile":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise UnmeasuredError("torch_compile: no C++ compiler here; install g++ or clang++") from error
    return lambda: _cpu_session(source)


def _cpu_session(source: SessionSource) -> Session:
    """A session whose calls set torch's number of threads for the process if another session changed it."""
    network, images = _copied(source, "cpu")
    threads, compiles = source.runtime.threads, source.runtime.name == "torch_compile"
    # one graph or an error: a part left to Python would be timed as if it were compiled
    forward = torch.compile(_with_code_object(network), fullgraph=True, dynamic=False) if compiles else network

    def call() -> Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return forward(images)

    if compiles:
        call()
    return Session(call, lambda: call().float(), _tags(source, "cpu") | {"threads": str(threads)})


def _cuda_session(source: SessionSource) -> Session:
    """A session timed by CUDA events, in float32 without TF32, which would lose 13 of its 23 bits."""
    torch.backends.cudnn.allow_tf32 = False
    network, images = _copied(source, "cuda")

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

    return Session(call, lambda: call().float().cpu(), _tags(source, torch.cuda.get_device_name()), timer)


def _copied(source: SessionSource, device: str) -> tuple[nn.Module, Tensor]:
    """A copy of the network and its images on a device, in the runtime's precision and layout."""
    dtype, layout = getattr(torch, source.runtime.precision), LAYOUTS[source.runtime.layout]
    network = copy.deepcopy(source.network).to(device, dtype).to(memory_format=layout)
    return network, source.images.to(device, dtype).contiguous(memory_format=layout)


def _tags(source: SessionSource, provider: str) -> dict[str, str]:
    tags = {"runtime_version": f"torch {torch.__version__}", "provider": provider}
    return {**tags, "precision": source.runtime.precision, "layout": source.runtime.layout}


def _with_code_object(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network's forward in a separate code object.

    All networks of a class share forward's code object, and with it the compiler's cache: they would reach its size
    limit and be slowed by each other's guards.
    """

    def infer(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits

    return FunctionType(infer.__code__.replace(), infer.__globals__, "infer", None, infer.__closure__)


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
