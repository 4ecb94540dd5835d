"""The batches of an epoch: order, resolution and AutoAugment strength as functions of (seed, epoch, progress)."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.spec import Phase
from mobileone_core.errors import require


class Moment(NamedTuple):
    """Epoch, resolution and AutoAugment strength: with seed and index they determine an image's augmentation."""

    epoch: int
    image_size: int
    autoaugment: float


class Request(NamedTuple):
    """A batch of an epoch, and its number: the indices of its images and the moment to read them at.

    The moment travels with the indices, so that worker processes survive the end of a phase.
    """

    indices: list[int]
    moment: Moment
    number: int


class Share(NamedTuple):
    """The images that one of several processes reads when they train one cell: rank, rank + ranks, ..."""

    rank: int = 0
    ranks: int = 1


WHOLE = Share()


@dataclass
class EpochPlan:
    """The batches of indices that a loader reads: shuffled for training, else in order with nothing dropped.

    Training drops the last incomplete batch, unless it is the only one. Without phases every epoch has image_size
    and no AutoAugment. batch_size counts the images of all shares together: in training the shares of a batch have
    equal sizes; otherwise every image is in one share, and sizes differ by at most one. Raises InputError if the
    images cannot be shared like this.

    With scales, pairs of a resolution and a number of images, every training batch has a drawn pair, and no image is
    dropped: the last batch is filled up with the first images of the epoch. The draw depends on (seed, epoch, step).
    """

    count: int
    seed: int
    batch_size: int
    image_size: int
    phases: Sequence[Phase] = ()
    shuffle: bool = False
    share: Share = WHOLE
    scales: Sequence[tuple[int, int]] = ()
    moment: Moment = field(init=False)

    def __post_init__(self) -> None:
        ranks = self.share.ranks
        allowed = f"a multiple of the processes that train together, which are {ranks}"
        for images in (self.batch_size, *(images for _, images in self.scales)):
            require(images % ranks == 0, "batch_size", images, allowed)
        is_uneven = self.shuffle and self.count < self.batch_size and self.count % ranks > 0
        fits = ranks == 1 or (self.count >= ranks and not is_uneven)
        require(fits, "processes", ranks, f"the {self.count} images of a split cannot be shared out so")
        self.set_epoch(0, 0.0)

    def set_epoch(self, epoch: int, progress: float) -> None:
        """Choose the epoch (from 0) that the next iteration reads, and the phase by its progress in [0, 1)."""
        self.moment = Moment(epoch, self.image_size, 0.0)
        if self.phases:
            phase = next((phase for phase in self.phases if progress < phase.until), self.phases[-1])
            self.moment = Moment(epoch, phase.image_size, phase.autoaugment)

    def __len__(self) -> int:
        if self.shuffle and not self.scales:
            return max(self.count // self.batch_size, 1)
        return len(self.batches())

    def batches(self) -> Sequence[Tensor]:
        """Return this share's batches of indices for the chosen epoch, each int64 (B,)."""
        rank, ranks = self.share
        if not self.shuffle:
            return torch.split(torch.arange(rank, self.count, ranks), self.batch_size // ranks)
        order = torch.randperm(self.count, generator=generator_for(self.seed, "order", self.moment.epoch))
        if self.scales:
            sizes = [images for _, images in self._drawn()]
            filled = order[torch.arange(sum(sizes)) % self.count]
            return [batch[rank::ranks] for batch in torch.split(filled, sizes)]
        return [batch[rank::ranks] for batch in torch.split(order, self.batch_size)[: len(self)]]

    def __iter__(self) -> Iterator[Request]:
        """Return this share's batches for the chosen epoch, one after the other."""
        drawn = self._drawn()
        for number, batch in enumerate(self.batches()):
            moment = self.moment._replace(image_size=drawn[number][0]) if drawn else self.moment
            yield Request(batch.tolist(), moment, number)

    def _drawn(self) -> Sequence[tuple[int, int]]:
        """Resolution and number of images of each training batch, until all images are read; empty without scales."""
        if not self.scales:
            return ()
        most = -(-self.count // min(images for _, images in self.scales))
        draws = torch.randint(len(self.scales), (most,), generator=generator_for(self.seed, "scale", self.moment.epoch))
        pairs = [self.scales[index] for index in draws.tolist()]
        read = itertools.accumulate(images for _, images in pairs)
        return pairs[: 1 + sum(images < self.count for images in read)]


class BatchLoader(ABC):
    """Batches of images, float32 normalized (B, C, S, S), and targets such as labels (B,), on the device, in a plan."""

    plan: EpochPlan

    def set_epoch(self, epoch: int, progress: float) -> None:
        """Choose the epoch (from 0) that the next iteration reads, and the phase by its progress in [0, 1)."""
        self.plan.set_epoch(epoch, progress)

    def close(self) -> None:  # noqa: B027 - in memory nothing is open
        """End the worker processes, if any."""

    def __len__(self) -> int:
        return len(self.plan)

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Tensor, Any]]: ...


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a new CPU generator for one purpose, so that draws do not depend on the device."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
