"""What a forward keeps for its backward."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps of a forward for the backward.

    Every storage counts once and whole, those of the parameters not at all. Nothing is left behind.
    """
    own = {value.untyped_storage().data_ptr() for value in parameters}
    kept: dict[int, Tensor] = {}  # the tensors stay alive, so that no other storage takes their place

    def pack(value: Tensor) -> Tensor:
        # detached: a node that held its own output would hold itself, and the whole graph, for ever
        detached = value.detach()
        pointer = value.untyped_storage().data_ptr()
        if pointer not in own:
            kept[pointer] = detached
        return detached

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        forward()
    return sum(value.untyped_storage().nbytes() for value in kept.values())
