"""The training batches as Lightning iterates over them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mobileone_core.data.epochs import BatchLoader, Share
from mobileone_core.training.module import CellModule


class EpochBatches:
    """Batches of the module's current epoch, with the teachers' probabilities where they can be computed beforehand.

    The loader learns its epoch when the first batch is drawn: Lightning makes the iterator before it knows, after a
    resume, which epoch that is. If an image never changes (no augmentation, no phases), the teachers see each image
    once, before the first batch; their probabilities, float32 (N, classes) in main memory, are then part of a batch.
    """

    def __init__(self, batches: BatchLoader, module: CellModule, epochs: int) -> None:
        self.batches, self.module, self.epochs = batches, module, epochs
        recipe = module.recipe
        self.precompute = module.teachers is not None and recipe.augmentation == "none" and not recipe.phases
        self._soft_labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.precompute and self._soft_labels is None:
            self._soft_labels = self._compute_soft_labels()
        epoch = self.module.current_epoch
        self.batches.set_epoch(epoch, epoch / self.epochs)
        if self._soft_labels is None:
            yield from self.batches
            return
        for (images, labels), indices in zip(self.batches, self.batches.plan.batches(), strict=True):
            yield images, labels, self._soft_labels[indices]

    def _compute_soft_labels(self) -> Tensor:
        """One pass over all training images, in order, on every process."""
        plan = self.batches.plan
        share, batch_size = plan.share, plan.batch_size
        plan.shuffle, plan.share, plan.batch_size = False, Share(), batch_size // share.ranks
        try:
            return torch.cat([self.module.soft_labels(images).cpu() for images, _ in self.batches])
        finally:
            plan.shuffle, plan.share, plan.batch_size = True, share, batch_size
