"""What a forward keeps for its backward."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

Output = TypeVar("Output")


def saved_bytes(forward: Callable[[], Output], parameters: Iterable[Tensor]) -> tuple[Output, int]:
    """What a forward gives, and the bytes that autograd keeps of it for the backward.

    Every storage counts once and whole, those of the parameters not at all.
    """
    own = {value.untyped_storage().data_ptr() for value in parameters}
    kept: dict[int, Tensor] = {}  # the tensors stay alive, so that no other storage takes their place

    def pack(value: Tensor) -> Tensor:
        pointer = value.untyped_storage().data_ptr()
        if pointer not in own:
            kept[pointer] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        output = forward()
    return output, sum(value.untyped_storage().nbytes() for value in kept.values())
