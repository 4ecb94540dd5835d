"""Code that other processes of a cell run in tests; as a command, a cell of two processes that stops halfway."""

import multiprocessing
import sys
import time
from pathlib import Path

import torch

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import NullObserver, TrainingFailed
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.run import CellJob, train_cell, train_rank

ERRORS = {"input": InputError("data_root: broken"), "loss": TrainingFailed("nan"), "key": KeyError("lost")}


def train_and_tell(rank: int, device: torch.device, work: CellJob) -> None:
    """Keeps a rank's results and tensors in the cell's directory."""
    module = train_rank(rank, device, work)
    torch.save((module.results, module.state_dict()), work.directory / f"{rank}.pt")


def fail(rank: int, device: torch.device, name: str) -> None:
    """Rank 1 raises, and the last rank waits for it."""
    if rank == 1:
        raise ERRORS[name]
    torch.distributed.barrier()


def meet(*_: object) -> None:
    torch.distributed.barrier()


class Standstill(NullObserver):
    """Prints the ids of the other processes in the third batch and goes no further."""

    batches = 0

    def batch_finished(self, *_) -> None:
        self.batches += 1
        if self.batches == 3:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            time.sleep(600)


if __name__ == "__main__":
    network = ModelSpec(widths=(8,), depths=(1,), k=1, stage_strides=(2,), in_channels=1)
    spec = CellSpec(network, DataSpec(image_size=16), Recipe(epochs=2, ema_decay=0.0, augmentation="crop"))
    execution = Execution("cpu", processes=2)
    train_cell(spec, execution=execution, data_root=None, directory=Path(sys.argv[1]), observer=Standstill())
