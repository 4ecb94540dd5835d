"""Reused memory for batches: fresh pages for every batch cost half as much as decoding its images."""

import math
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPARES = 2  # free arrays to keep: a reader holds one batch, or the last one and the next


class ImageSlots:
    """Memory for count batches of images, written by worker processes and read by the main process.

    shared allocates memory that other processes see. Pages are allocated when they are first written.
    """

    def __init__(self, count: int, images: int, image_size: int, *, shared: bool) -> None:
        size = count * images * 3 * image_size**2
        make = torch.UntypedStorage._new_shared if shared else torch.UntypedStorage
        storage: torch.UntypedStorage = make(size)
        self.memory = torch.empty(0, dtype=torch.uint8).set_(storage).view(count, -1)

    def images(self, slot: int, count: int, image_size: int) -> Tensor:
        """Return a slot as count images, uint8 (count, 3, image_size, image_size), channels last in memory."""
        used = self.memory[slot, : count * 3 * image_size**2]
        return used.view(count, image_size, image_size, 3).permute(0, 3, 1, 2)


class SpareFloats:
    """A pool of float32 CPU memory: memory returns to the pool when the last tensor over it is deleted."""

    def __init__(self) -> None:
        self._spares: list[NDArray[np.float32]] = []

    def empty(self, *shape: int) -> Tensor:
        """Return a contiguous, uninitialized tensor."""
        size = math.prod(shape)
        memory = self._spares.pop() if self._spares else np.empty(size, np.float32)
        if len(memory) < size:
            memory = np.empty(size, np.float32)
        view = memory[:size]  # a new object, which the tensor's storage keeps alive
        weakref.finalize(view, self._recycle, memory).atexit = False
        return torch.from_numpy(view).view(shape)

    def _recycle(self, memory: NDArray[np.float32]) -> None:
        if len(self._spares) < SPARES:
            self._spares.append(memory)
