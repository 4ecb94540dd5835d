"""A cell that trains in a fraction of a second, and an observer that remembers."""

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import Recipe

MODEL = ModelSpec(widths=(8, 12), depths=(1, 1), k=2, stage_strides=(2, 2), in_channels=1)
RECIPE = Recipe(
    epochs=2,
    batch_size=256,
    warmup_epochs=0.5,
    nesterov=True,
    label_smoothing=0.1,
    ema_decay=0.5,
    augmentation="crop",
)
CELL = CellSpec(MODEL, DataSpec(image_size=16), RECIPE)


class Memory:
    """Remembers what it was told; stops the cell after an epoch or a batch where it is asked to."""

    def __init__(self, after_epoch=None, after_batch=None, error=TrainingStopped):
        self.records, self.resumed_with, self.batches = [], None, 0
        self.after_epoch, self.after_batch, self.error = after_epoch, after_batch, error

    def resumed(self, history):
        self.resumed_with = list(history)

    def batch_finished(self):
        self.batches += 1
        if self.batches == self.after_batch:
            raise self.error

    def epoch_finished(self, record):
        self.records.append(record)
        if record.epoch == self.after_epoch:
            raise self.error


@pytest.fixture
def memory():
    """The observer's class."""
    return Memory


@pytest.fixture
def cell():
    """A cell of 4 steps an epoch."""
    return CELL
