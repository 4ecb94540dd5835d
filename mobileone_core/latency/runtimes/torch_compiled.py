"""Torch on the CPU, compiled by inductor as one graph. It needs a C++ compiler."""

from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor, nn

from mobileone_core.latency.runtimes.session import Opener, Session, SessionSource, UnmeasuredError
from mobileone_core.latency.runtimes.torch_eager import cpu_session, prepare_network


def prepare(source: SessionSource) -> Opener:
    """Every session compiles the network. Raises UnmeasuredError if there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UnmeasuredError("torch_compile: no C++ compiler here; install g++ or clang++") from error

    def opened() -> Session:
        network, images = prepare_network(source)
        # one graph or an error: a part left to Python would be timed as if it were compiled
        compiled = torch.compile(_with_code_object(network), fullgraph=True, dynamic=False)
        session = cpu_session(compiled, images, source.runtime)
        session.call()
        return session

    return opened


def _with_code_object(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network's forward in a separate code object.

    All networks of a class share forward's code object, and with it the compiler's cache: they would reach its size
    limit and be slowed by each other's guards.
    """

    def infer(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits

    return FunctionType(infer.__code__.replace(), infer.__globals__, "infer", None, infer.__closure__)
