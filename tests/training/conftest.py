"""A cell that trains in a fraction of a second, and an observer that remembers; helpers are imported by name."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.run import train_cell

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
    """Records what training reports; raises an error after an epoch or a batch if one is given."""

    def __init__(self, after_epoch=None, after_batch=None, error=TrainingStopped):
        self.records, self.resumed_with, self.batches = [], None, 0
        self.after_epoch, self.after_batch, self.error = after_epoch, after_batch, error

    def resumed(self, history):
        self.resumed_with = list(history)

    def batch_finished(self, *_):
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


@pytest.fixture
def train(tmp_path):
    """train("name of a directory", observer=..., execution=..., spec=..., **changes of the recipe) -> CellResult."""

    def run(directory="cell", observer=None, execution=None, spec=CELL, files=None, *, start=None, **changes):
        return train_cell(
            replace(spec, recipe=replace(spec.recipe, **changes)),
            execution=execution or Execution("cpu"),
            data_root=None,
            directory=tmp_path / directory,
            observer=observer or Memory(),
            teachers=files or {},
            init=start,
        )

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
