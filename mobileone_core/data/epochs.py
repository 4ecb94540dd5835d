"""What an epoch reads: order, batches, resolution and strength, all functions of (seed, epoch, progress)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import require


class PhaseLike(Protocol):
    """A part of training up to the fraction `until`, with its resolution (pixels) and AutoAugment strength."""

    @property
    def until(self) -> float: ...
    @property
    def image_size(self) -> int: ...
    @property
    def autoaugment(self) -> float: ...


class Moment(NamedTuple):
    """All that an image's augmentation depends on besides seed and index."""

    epoch: int
    image_size: int
    autoaugment: float


class Share(NamedTuple):
    """Which images one of several processes reads that train together: every ranks-th, from number rank on."""

    rank: int = 0
    ranks: int = 1


WHOLE = Share()


@dataclass
class EpochPlan:
    """The batches of indices that a loader reads: shuffled for training, else in order with nothing dropped.

    Training drops the last incomplete batch, unless it is the only one. Without phases every epoch has image_size
    and no AutoAugment. batch_size is that of all shares together: in training the shares of a batch are equal in
    size, and together they are that batch; elsewhere every image is in one share, and their sizes differ by one at
    most. Raises InputError where that cannot be.
    """

    count: int
    seed: int
    batch_size: int
    image_size: int
    phases: Sequence[PhaseLike] = ()
    shuffle: bool = False
    share: Share = WHOLE
    moment: Moment = field(init=False)

    def __post_init__(self) -> None:
        ranks = self.share.ranks
        allowed = f"a multiple of the processes that train together, which are {ranks}"
        require(self.batch_size % ranks == 0, "batch_size", self.batch_size, allowed)
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
        if self.shuffle:
            return max(self.count // self.batch_size, 1)
        return len(self.batches())

    def batches(self) -> Sequence[Tensor]:
        """This share of the chosen epoch's batches of indices, int64 (B,)."""
        rank, ranks = self.share
        if not self.shuffle:
            return torch.split(torch.arange(rank, self.count, ranks), self.batch_size // ranks)
        order = torch.randperm(self.count, generator=generator_for(self.seed, "order", self.moment.epoch))
        return [batch[rank::ranks] for batch in torch.split(order, self.batch_size)[: len(self)]]


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator of its own for one purpose; the same draws whatever the device."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
