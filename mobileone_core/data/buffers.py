"""Memory that is used again: fresh pages for every batch cost half as much as decoding its images."""

import math
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPARES = 2  # free arrays worth keeping: a reader holds one batch, or the last one and the next


class ImageSlots:
    """Room for the images of several batches, which worker processes fill and the main process reads.

    shared: in memory that other processes see. Pages are taken when they are first written.
    """

    def __init__(self, count: int, images: int, image_size: int, *, shared: bool) -> None:
        size = count * images * 3 * image_size**2
        make = torch.UntypedStorage._new_shared if shared else torch.UntypedStorage
        storage: torch.UntypedStorage = make(size)
        self.memory = torch.empty(0, dtype=torch.uint8).set_(storage).view(count, -1)

    def images(self, slot: int, count: int, image_size: int) -> Tensor:
        """The first images of a slot, uint8 (count, 3, image_size, image_size); in memory channels come last."""
        used = self.memory[slot, : count * 3 * image_size**2]
        return used.view(count, image_size, image_size, 3).permute(0, 3, 1, 2)


class SpareFloats:
    """Lends float32 memory on the CPU, and lends it anew when the last tensor over it is gone."""

    def __init__(self) -> None:
        self._spares: list[NDArray[np.float32]] = []

    def empty(self, *shape: int) -> Tensor:
        """A contiguous tensor that nobody else holds, not initialized."""
        size = math.prod(shape)
        memory = self._spares.pop() if self._spares else np.empty(size, np.float32)
        if len(memory) < size:
            memory = np.empty(size, np.float32)
        lent = memory[:size]  # a new object, which the tensor's storage keeps alive
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return torch.from_numpy(lent).view(shape)

    def _give_back(self, memory: NDArray[np.float32]) -> None:
        if len(self._spares) < SPARES:
            self._spares.append(memory)
