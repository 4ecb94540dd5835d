"""The torch side of a float16 program: a network whose constants are rounded, computed in single precision."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SIXTH = float(torch.tensor(1 / 6).half())


def rounded(network: nn.Module) -> nn.Module:
    """A copy with every weight and buffer rounded to half precision and back."""
    return copy.deepcopy(network).half().float()


@contextmanager
def rounded_constants() -> Iterator[None]:
    """Inside, hard sigmoid and hard swish use a sixth as half precision holds it: 2e-4 less, as Core ML stores it."""
    with _Rounding():
        yield


class _Rounding(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is F.hardsigmoid:
            return _hard_sigmoid(args[0])
        if func is F.hardswish:
            return torch.where(args[0] >= -3, args[0], 0.0) * _hard_sigmoid(args[0])
        return func(*args, **(kwargs or {}))


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (SIXTH * x + 0.5).clamp(0, 1)
