"""Recording an epoch: report it to the observer, then write last.ckpt, which holds all that a cell needs to resume."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mobileone_core.errors import InputError
from mobileone_core.files import write_whole
from mobileone_core.training.module import CellModule
from mobileone_core.training.observer import EpochRecord, Observer


class EpochRecorder(Callback):
    """Collects an EpochRecord after each epoch's validation, reports it, then writes the checkpoint, in this order.

    If the observer raises, the checkpoint of the previous epoch stays. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, observer: Observer, history: Sequence[EpochRecord]) -> None:
        self.path = path
        self.observer = observer
        self.history = list(history)
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        """Let the observer stop the cell after any batch."""
        self.observer.batch_finished()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and report the epoch, then write the checkpoint to a temporary file and rename it."""
        assert isinstance(pl_module, CellModule)
        metrics = pl_module.epoch_metrics() | {"time/epoch_seconds": time.perf_counter() - self._started}
        now = time.time_ns() // 1_000_000
        record = EpochRecord(trainer.current_epoch + 1, trainer.global_step, now, metrics)
        self.observer.epoch_finished(record)
        self.history.append(record)
        if self.path is not None:
            write_whole(self.path, trainer.save_checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Add the history as plain data, which weights-only loading accepts."""
        checkpoint["history"] = [{**asdict(record), "metrics": dict(record.metrics)} for record in self.history]


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs that a checkpoint holds. Executes no pickled code.

    Raises InputError if the file cannot be read.
    """
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return [EpochRecord(**record) for record in content["history"]]
    except Exception as error:  # a broken file raises any of a dozen
        message = f"{path}: not a checkpoint of this version; delete it to start this cell afresh"
        raise InputError(message) from error
