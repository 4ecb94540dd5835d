"""Small data sets: all images in the device's memory, augmented there in batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobileone_core.data.augment import BatchAugment, Normalize, resize
from mobileone_core.data.epochs import BatchLoader, EpochPlan, Moment
from mobileone_core.data.seeding import derive_seed


@dataclass(frozen=True)
class ImageTensor:
    """The images of one split, uint8 (N, C, S, S), and labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: NDArray[np.int64]) -> "ImageTensor":
        """Return the images at indices, in that order."""
        return ImageTensor(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "ImageTensor":
        """Return the images in a device's memory."""
        return ImageTensor(self.images.to(device), self.labels.to(device))


class MemoryLoader(BatchLoader):
    """Batches of images, float32 normalized (B, C, S, S), and labels, int64 (B,), on the data's device."""

    def __init__(self, data: ImageTensor, normalize: Normalize, augmentation: str, plan: EpochPlan) -> None:
        self.data, self.normalize, self.plan = data, normalize, plan
        self.augment = BatchAugment(data.images, augmentation)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draws = self.augment.draw(self.plan.seed, self.plan.moment.epoch)
        for batch, moment, _ in self.plan:
            indices = torch.tensor(batch, device=self.data.labels.device)
            images = self.augment(indices, draws)
            if moment.autoaugment:
                images = self._autoaugmented(images, batch, moment)
            yield resize(self.normalize(images), moment.image_size), self.data.labels[indices]

    def _autoaugmented(self, images: Tensor, indices: list[int], moment: Moment) -> Tensor:
        from mobileone_core.data.autoaugment import autoaugment, seeded  # torchvision takes a second

        transform, augmented = autoaugment(moment.autoaugment), []
        for image, index in zip(images, indices, strict=True):
            with seeded(derive_seed(self.plan.seed, "autoaugment", moment.epoch, index)):
                augmented.append(transform(image))
        return torch.stack(augmented)
