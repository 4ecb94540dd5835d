"""Big sets: images are decoded and augmented by worker processes with torchvision's transforms."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.augment import Normalize
from mobileone_core.data.autoaugment import autoaugment, seeded
from mobileone_core.data.buffers import ImageSlots, SpareFloats
from mobileone_core.data.epochs import EpochPlan, Moment
from mobileone_core.data.folders import ImageFiles
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError

EVAL_CROP = 0.875  # the centre crop's share of the resized shorter side: 224 of 256
PREFETCH = 2  # batches asked of each worker ahead; PyTorch's default

ImageTransform = Callable[[int, float], v2.Compose]  # of a resolution (pixels) and a strength of AutoAugment


class Request(NamedTuple):
    """A batch to be read by one worker, and the slot to write it to.

    The moment travels with the indices, so that workers live through a phase's end.
    """

    indices: list[int]
    moment: Moment
    slot: int


class Filled(NamedTuple):
    """A slot that holds a batch of images, and their labels."""

    slot: int
    image_size: int
    labels: list[int]


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image that cannot be decoded until the main process says so: an exception would arrive wrapped
    in a worker's traceback."""

    path: Path
    reason: str


Item = tuple[Tensor, int] | Unreadable
Batch = Filled | Unreadable


class StreamDataset(Dataset[Batch]):
    """Decodes and augments a batch of images a request, and writes them to the request's slot.

    Draws depend on (seed, epoch, index) alone, not on which worker serves the request.
    """

    def __init__(self, files: ImageFiles, transform: ImageTransform, seed: int, slots: ImageSlots) -> None:
        self.files, self.transform, self.seed, self.slots = files, transform, seed, slots

    def __getitem__(self, request: Request) -> Batch:
        """The first unreadable image stands for its whole batch."""
        indices, moment, slot = request
        labels = []
        for row, index in zip(self.slots.images(slot, len(indices), moment.image_size), indices, strict=True):
            item = self.item(index, moment)
            if isinstance(item, Unreadable):
                return item
            row.copy_(item[0])
            labels.append(item[1])
        return Filled(slot, moment.image_size, labels)

    def item(self, index: int, moment: Moment) -> Item:
        """One image, uint8 (3, S, S), and its label."""
        path = self.files.path(index)
        try:
            with Image.open(path) as image:
                image.load()
                decoded = image if image.mode == "RGB" else image.convert("RGB")  # which would copy
        except Exception as error:  # decoders raise nearly every type there is
            return Unreadable(path, " ".join(str(error).split()) or type(error).__name__)
        transform = self.transform(moment.image_size, moment.autoaugment)
        with seeded(derive_seed(self.seed, "augmentation", moment.epoch, index)):
            return transform(decoded), int(self.files.labels[index])


@lru_cache(maxsize=8)
def image_transform(
    augmentation: str, image_size: int, strength: float, crop: float = EVAL_CROP, interpolation: str = "bilinear"
) -> v2.Compose:
    """A PIL image to uint8 (3, image_size, image_size); "none" is the evaluation's resize and centre crop.

    crop is what image_size is of the resized shorter side, which is rounded down to whole pixels, as timm does.
    Resizing is antialiased, as PIL does it.
    """
    mode = InterpolationMode(interpolation)
    if augmentation == "resized_crop_flip":
        steps = [v2.RandomResizedCrop(image_size, interpolation=mode)]
    else:
        cut = v2.CenterCrop if augmentation == "none" else v2.RandomCrop
        steps = [v2.Resize(math.floor(image_size / crop), interpolation=mode), cut(image_size)]
    if augmentation.endswith("flip"):
        steps.append(v2.RandomHorizontalFlip())
    if strength:
        steps.append(autoaugment(strength))
    return v2.Compose([*steps, v2.PILToTensor()])


class _Requests:
    """A plan's batches as a DataLoader's sampler; their slots in turn."""

    def __init__(self, plan: EpochPlan, slots: int) -> None:
        self.plan, self.slots = plan, slots

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Request]:
        moment = self.plan.moment
        for number, batch in enumerate(self.plan.batches()):
            yield Request(batch.tolist(), moment, number % self.slots)


class StreamLoader:
    """Batches of images, float32 normalized (B, 3, S, S), and labels, int64 (B,), on the device.

    Iterating raises InputError naming the file where one cannot be decoded.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        files: ImageFiles,
        normalize: Normalize,
        transform: ImageTransform,
        plan: EpochPlan,
        device: torch.device,
        workers: int,
    ) -> None:
        self.normalize, self.plan, self.device = normalize, plan, device
        count = PREFETCH * workers + 1  # all that workers may be writing, and the one that is being read
        largest = max([plan.image_size, *(phase.image_size for phase in plan.phases)])
        batch_size = min(plan.batch_size // plan.share.ranks, plan.count)
        self.slots = ImageSlots(count, batch_size, largest, shared=workers > 0)
        self.floats = SpareFloats()
        self.loader: DataLoader[Batch] = DataLoader(
            StreamDataset(files, transform, plan.seed, self.slots),
            sampler=_Requests(plan, count),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # it would draw the workers' seeds from the global one
        )

    def set_epoch(self, epoch: int, progress: float) -> None:
        """Choose the epoch (from 0) that the next iteration reads, and the phase by its progress in [0, 1)."""
        self.plan.set_epoch(epoch, progress)

    def __len__(self) -> int:
        return len(self.plan)

    def close(self) -> None:
        """End the worker processes at once; left to the garbage collector they can take 5 s to go."""
        if isinstance(self.loader._iterator, _MultiProcessingDataLoaderIter):
            self.loader._iterator._shutdown_workers()
            self.loader._iterator = None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            if isinstance(batch, Unreadable):
                self.close()
                raise InputError(f"data_root: {batch.path} is not a readable image ({batch.reason})")
            images = self.slots.images(batch.slot, len(batch.labels), batch.image_size)
            yield self._normalized(images), torch.tensor(batch.labels).to(self.device, non_blocking=True)

    def _normalized(self, images: Tensor) -> Tensor:
        """Leaves nothing in the slot, which the next request may overwrite."""
        if self.device.type == "cpu":
            return self.normalize.into(self.floats.empty(*images.shape), images)
        if is_cuda := self.device.type == "cuda":
            images = images.pin_memory()
        return self.normalize(images.to(self.device, non_blocking=is_cuda).contiguous())
