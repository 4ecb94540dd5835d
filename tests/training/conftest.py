"""Training a small cell, and an observer that remembers; helpers are imported by name."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.run import train_cell


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


@pytest.fixture(scope="session")
def memory():
    """The observer's class."""
    return Memory


@pytest.fixture(scope="session")
def train_at(cell):
    """train_at(directory, observer=..., execution=..., spec=..., **changes of the recipe) -> CellResult."""

    def run(directory, observer=None, execution=None, spec=None, files=None, *, start=None, root=None, **changes):
        threads = torch.get_num_threads()
        try:
            return train_cell(
                replace(spec or cell, recipe=replace((spec or cell).recipe, **changes)),
                execution=execution or Execution("cpu"),
                data_root=root,
                directory=directory,
                observer=observer or Memory(),
                teachers=files or {},
                init=start,
            )
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture
def train(train_at, tmp_path):
    """train_at in a directory of the test, by its name."""
    return lambda directory="cell", *arguments, **options: train_at(tmp_path / directory, *arguments, **options)
