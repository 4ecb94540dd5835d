"""Large data sets: worker processes decode and augment images with torchvision's transforms."""

import math
import mmap
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.augment import Normalize
from mobileone_core.data.autoaugment import autoaugment, seeded
from mobileone_core.data.epochs import BatchLoader, EpochPlan, Moment, Request
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.spec import EVAL_CROP, resized_side
from mobileone_core.errors import InputError

PREFETCH = 2  # batches requested of each worker in advance; PyTorch's default
LEAST_SHARED = 2  # MiB of /dev/shm
SPARES = 2  # free arrays to keep: a reader holds one batch, or the last one and the next


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be decoded, and why; the main process raises the error, without a worker's traceback."""

    reason: str


Item = tuple[Tensor, Any] | Unreadable
Batch = tuple[Request, list[Any]] | Unreadable  # with the targets: labels, masks or boxes


# Reused memory: fresh pages for every batch cost half as much as decoding its images.
class ImageSlots:
    """Memory for count batches of images, written by worker processes and read by the main process, in turn.

    shared allocates memory that worker processes see; on Linux not in /dev/shm, small in containers. Pages are
    allocated when they are first written.
    """

    def __init__(self, count: int, images: int, image_size: int, *, shared: bool) -> None:
        size = count * images * 3 * image_size**2
        self.descriptor: int | None = None
        if shared and sys.platform == "linux":
            descriptor = os.memfd_create("batches")
            os.truncate(descriptor, size)
            self.__setstate__((count, descriptor))
            return
        make = torch.UntypedStorage._new_shared if shared else torch.UntypedStorage
        storage: torch.UntypedStorage = make(size)
        self.memory = torch.empty(0, dtype=torch.uint8).set_(storage).view(count, -1)

    def __getstate__(self) -> object:
        return vars(self) if self.descriptor is None else (len(self.memory), reduction.DupFd(self.descriptor))

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update(state)
            return
        count, descriptor = state
        self.descriptor = descriptor if isinstance(descriptor, int) else descriptor.detach()
        weakref.finalize(self, os.close, self.descriptor)
        self.memory = torch.frombuffer(mmap.mmap(self.descriptor, 0), dtype=torch.uint8).view(count, -1)

    def images(self, request: Request) -> Tensor:
        """Return the slot of a request as its images, uint8 (B, 3, S, S), channels last in memory."""
        count, size = len(request.indices), request.moment.image_size
        used = self.memory[request.number % len(self.memory), : count * 3 * size**2]
        return used.view(count, size, size, 3).permute(0, 3, 1, 2)


def possible_workers(workers: int) -> int:
    """The worker processes, or 0, with a warning, where /dev/shm is all but full: Linux keeps their locks there.

    Raises:
        InputError: /dev/shm could not hold the locks if it were empty.
    """
    if not workers or sys.platform != "linux":
        return workers
    state = os.statvfs("/dev/shm")
    size, free = (blocks * state.f_frsize / 2**20 for blocks in (state.f_blocks, state.f_bavail))
    cure = f"worker processes need {LEAST_SHARED} MiB of this shared memory: enlarge it (docker run --shm-size=1g)"
    if size < LEAST_SHARED:
        raise InputError(f"/dev/shm: {size:.1f} MiB in all; {cure}")
    if free < LEAST_SHARED:
        lack = f"no worker process decodes, for /dev/shm has {free:.1f} MiB free; {cure} or empty it"
        warnings.warn(lack, UserWarning, stacklevel=2)
        return 0
    return workers


class SpareFloats:
    """A pool of float32 CPU memory: memory returns to the pool when the last tensor over it is deleted."""

    def __init__(self) -> None:
        self._spares: list[NDArray[np.float32]] = []

    def empty(self, *shape: int) -> Tensor:
        """Return a contiguous, uninitialized float32 tensor, over memory that no living tensor of the pool uses."""
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


class StreamDataset(Dataset[Batch]):
    """Decodes and augments one batch of images per request, and writes it to the request's slot.

    files.read(index) gives an image and its target; transform(image_size, strength), with AutoAugment's strength, a
    function that returns both as a batch holds them. Random draws depend on (seed, epoch, index), not on the worker.
    """

    def __init__(self, files: Any, transform: Callable[..., Any], seed: int, slots: ImageSlots) -> None:
        self.files, self.transform, self.seed, self.slots = files, transform, seed, slots

    def __getitem__(self, request: Request) -> Batch:
        """Fill the request's slot and return the targets, or the error of the first image that cannot be read."""
        targets = []
        for row, index in zip(self.slots.images(request), request.indices, strict=True):
            item = self.item(index, request.moment)
            if isinstance(item, Unreadable):
                return item
            row.copy_(item[0])
            targets.append(item[1])
        return request, targets

    def item(self, index: int, moment: Moment) -> Item:
        """Return one image, uint8 (3, S, S), and its target."""
        try:
            image, target = self.files.read(index)
        except InputError as error:
            return Unreadable(str(error))
        transform = self.transform(moment.image_size, moment.autoaugment)
        with seeded(derive_seed(self.seed, "augmentation", moment.epoch, index)):
            item: Item = transform(image, target)
            return item


@lru_cache(maxsize=8)
def image_transform(
    augmentation: str, image_size: int, strength: float, crop: float = EVAL_CROP, interpolation: str = "bilinear"
) -> v2.Compose:
    """Return the transform of a PIL image to uint8 (3, image_size, image_size); a label next to it stays as it is.

    The augmentation "none" is the resize and centre crop of evaluation: the shorter side becomes image_size / crop
    (resized_side). Resizing is antialiased, as in PIL. strength is AutoAugment's.
    """
    mode = InterpolationMode(interpolation)
    if augmentation == "resized_crop_flip":
        steps = [v2.RandomResizedCrop(image_size, interpolation=mode)]
    else:
        cut = v2.CenterCrop if augmentation == "none" else v2.RandomCrop
        steps = [v2.Resize(resized_side(image_size, crop), interpolation=mode), cut(image_size)]
    if augmentation.endswith("flip"):
        steps.append(v2.RandomHorizontalFlip())
    if strength:
        steps.append(autoaugment(strength))
    return v2.Compose([*steps, v2.PILToTensor()])


def _unchanged(batch: Any) -> Any:
    """The DataLoader's default makes tensors of arrays, which travel in files of /dev/shm, open while they live."""
    return batch


class StreamLoader(BatchLoader):
    """Batches decoded by worker processes. Iterating raises InputError with the path of a file that is no image."""

    def __init__(
        self, files: Any, normalize: Normalize, transform: Callable[..., Any], plan: EpochPlan, workers: int
    ) -> None:
        workers = possible_workers(workers)
        self.normalize, self.plan, self.device = normalize, plan, normalize.device
        count = PREFETCH * workers + 1  # those being written by workers, and one being read
        largest = max([plan.image_size, *(phase.image_size for phase in plan.phases)])
        ranks = plan.share.ranks
        pairs = plan.scales or [(largest, min(plan.batch_size, plan.count * ranks))]
        size, images = max(pairs, key=lambda pair: pair[0] ** 2 * pair[1])
        self.slots = ImageSlots(count, images // ranks, size, shared=workers > 0)
        self.floats = SpareFloats()
        self.loader: DataLoader[Batch] = DataLoader(
            StreamDataset(files, transform, plan.seed, self.slots),
            sampler=plan,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # without it the workers' seeds come from the global generator
        )

    def close(self) -> None:
        """End the worker processes at once; the garbage collector can take 5 s."""
        if isinstance(self.loader._iterator, _MultiProcessingDataLoaderIter):
            self.loader._iterator._shutdown_workers()
            self.loader._iterator = None

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for batch in self.loader:
            if isinstance(batch, Unreadable):
                self.close()
                raise InputError(f"data_root: {batch.reason}")
            request, targets = batch
            yield self._normalized(self.slots.images(request)), self._on_device(targets)

    def _on_device(self, targets: list[Any]) -> Any:
        """Labels, int64 (B,), or masks, int64 (B, S, S); for boxes a dict of tensors per image."""
        if not isinstance(targets[0], dict):
            return torch.from_numpy(np.stack(targets)).to(self.device, non_blocking=True).long()
        return [{name: torch.as_tensor(value, device=self.device) for name, value in item.items()} for item in targets]

    def _normalized(self, images: Tensor) -> Tensor:
        """Copy images out of their slot, which the next request may overwrite."""
        if self.device.type == "cpu":
            return self.normalize.into(self.floats.empty(*images.shape), images)
        if is_cuda := self.device.type == "cuda":
            images = images.pin_memory()
        return self.normalize(images.to(self.device, non_blocking=is_cuda).contiguous())
