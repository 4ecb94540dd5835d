"""What an epoch reads: order, batches, resolution and strength, all functions of (seed, epoch, progress)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mobileone_core.data.seeding import derive_seed


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


@dataclass
class EpochPlan:
    """The batches of indices that a loader reads: shuffled for training, else in order with nothing dropped.

    Training drops the last incomplete batch, unless it is the only one. Without phases every epoch has image_size
    and no AutoAugment.
    """

    count: int
    seed: int
    batch_size: int
    image_size: int
    phases: Sequence[PhaseLike] = ()
    shuffle: bool = False
    moment: Moment = field(init=False)

    def __post_init__(self) -> None:
        self.set_epoch(0, 0.0)

    def set_epoch(self, epoch: int, progress: float) -> None:
        """Choose the epoch (from 0) that the next iteration reads, and the phase by its progress in [0, 1)."""
        self.moment = Moment(epoch, self.image_size, 0.0)
        if self.phases:
            phase = next((phase for phase in self.phases if progress < phase.until), self.phases[-1])
            self.moment = Moment(epoch, phase.image_size, phase.autoaugment)

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.batch_size)
        return max(whole, 1) if self.shuffle else whole + (rest > 0)

    def batches(self) -> Sequence[Tensor]:
        """The chosen epoch's batches of indices, int64 (B,)."""
        if not self.shuffle:
            return torch.split(torch.arange(self.count), self.batch_size)
        order = torch.randperm(self.count, generator=generator_for(self.seed, "order", self.moment.epoch))
        return torch.split(order, self.batch_size)[: len(self)]


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator of its own for one purpose; the same draws whatever the device."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
