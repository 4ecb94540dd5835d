"""The training batches as Lightning iterates over them."""

from collections.abc import Iterator

from pytorch_lightning import LightningModule

from mobileone_core.data.loaders import BatchLoader
from mobileone_core.training.module import Batch


class EpochBatches:
    """Tells the loader which epoch it is when the first batch is drawn.

    Lightning makes an epoch's iterator before it knows, after a resume, which epoch that is.
    """

    def __init__(self, batches: BatchLoader, module: LightningModule, epochs: int) -> None:
        self.batches, self.module, self.epochs = batches, module, epochs

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.module.current_epoch
        self.batches.set_epoch(epoch, epoch / self.epochs)
        yield from self.batches
