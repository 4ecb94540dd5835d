"""What happens around the steps: the observer is told, the epoch is recorded, the checkpoint is written."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from mobileone_core.files import write_whole
from mobileone_core.training.checkpoint import pack_history
from mobileone_core.training.module import ClassificationModule
from mobileone_core.training.observer import EpochRecord, Observer


class EpochRecorder(Callback):
    """At an epoch's end, after its validation: record, tell the observer, write last.ckpt, in this order.

    An observer that raises keeps the checkpoint of the epoch before. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, observer: Observer, history: Sequence[EpochRecord]) -> None:
        self.path = path
        self.observer = observer
        self.history = list(history)
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.observer.batch_finished()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        metrics = pl_module.epoch_metrics() | {"time/epoch_seconds": time.perf_counter() - self._started}
        now = time.time_ns() // 1_000_000
        record = EpochRecord(trainer.current_epoch + 1, trainer.global_step, now, metrics)
        self.observer.epoch_finished(record)
        self.history.append(record)
        if self.path is not None:
            write_whole(self.path, trainer.save_checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        checkpoint["history"] = pack_history(self.history)
