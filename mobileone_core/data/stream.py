"""Big sets: images are decoded and augmented by worker processes with torchvision's transforms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.augment import Normalize
from mobileone_core.data.autoaugment import autoaugment, seeded
from mobileone_core.data.epochs import EpochPlan, Moment
from mobileone_core.data.folders import ImageFiles
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError

INTERPOLATION = InterpolationMode.BILINEAR  # of every resize; antialiased, as PIL does it
EVAL_CROP = 0.875  # the centre crop's share of the resized shorter side: 224 of 256

Request = tuple[int, Moment]  # the moment travels with the index, so that workers live through a phase's end


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image that cannot be decoded until the main process says so: an exception would arrive wrapped
    in a worker's traceback."""

    path: Path
    reason: str


Item = tuple[Tensor, int] | Unreadable
Batch = tuple[Tensor, Tensor] | Unreadable


class StreamDataset(Dataset[Item]):
    """Decodes and augments one image a request: uint8 (3, S, S) and its label.

    Draws depend on (seed, epoch, index) alone, not on which worker serves the request.
    """

    def __init__(self, files: ImageFiles, augmentation: str, seed: int) -> None:
        self.files, self.augmentation, self.seed = files, augmentation, seed

    def __getitem__(self, request: Request) -> Item:
        index, moment = request
        path = self.files.path(index)
        try:
            with Image.open(path) as image:
                decoded = image.convert("RGB")
        except Exception as error:  # decoders raise nearly every type there is
            return Unreadable(path, " ".join(str(error).split()) or type(error).__name__)
        transform = image_transform(self.augmentation, moment.image_size, moment.autoaugment)
        with seeded(derive_seed(self.seed, "augmentation", moment.epoch, index)):
            return transform(decoded), int(self.files.labels[index])


@lru_cache(maxsize=8)
def image_transform(augmentation: str, image_size: int, strength: float) -> v2.Compose:
    """A PIL image to uint8 (3, image_size, image_size); "none" is the evaluation's resize and centre crop."""
    if augmentation == "resized_crop_flip":
        steps = [v2.RandomResizedCrop(image_size, interpolation=INTERPOLATION)]
    else:
        crop = v2.CenterCrop if augmentation == "none" else v2.RandomCrop
        steps = [v2.Resize(round(image_size / EVAL_CROP), interpolation=INTERPOLATION), crop(image_size)]
    if augmentation.endswith("flip"):
        steps.append(v2.RandomHorizontalFlip())
    if strength:
        steps.append(autoaugment(strength))
    return v2.Compose([*steps, v2.PILToTensor()])


def collate(items: Sequence[Item]) -> Batch:
    """Images stacked to (B, 3, S, S) and labels to (B,); the first unreadable image stands for its whole batch."""
    images, labels = [], []
    for item in items:
        if isinstance(item, Unreadable):
            return item
        images.append(item[0])
        labels.append(item[1])
    return torch.stack(images), torch.tensor(labels)


class _Requests:
    """A plan's batches as a DataLoader's batch_sampler."""

    def __init__(self, plan: EpochPlan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[Request]]:
        moment = self.plan.moment
        for batch in self.plan.batches():
            yield [(index, moment) for index in batch.tolist()]


class StreamLoader:
    """Batches of images, float32 normalized (B, 3, S, S), and labels, int64 (B,), on the device.

    Iterating raises InputError naming the file where one cannot be decoded.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        files: ImageFiles,
        normalize: Normalize,
        augmentation: str,
        plan: EpochPlan,
        device: torch.device,
        workers: int,
    ) -> None:
        self.normalize, self.plan, self.device = normalize, plan, device
        self.loader: DataLoader[Item] = DataLoader(
            StreamDataset(files, augmentation, plan.seed),
            batch_sampler=_Requests(plan),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
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
            images, labels = (item.to(self.device, non_blocking=True) for item in batch)
            yield self.normalize(images), labels
