"""A stand-in for training that obeys its contract in milliseconds, and small plans to run it on."""

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor, Plan, Study
from mobileone_core.study.job import Engine, QueueTiming
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.observer import CellResult, EpochRecord
from mobileone_core.training.recipe import Recipe

TRAIN = "study_fakes:train"
FAST = Engine(QueueTiming(heartbeat=1, grace=3, claim=1.0), TRAIN)


def small_plan(levels=(1, 2, 3, 4), seeds=3, epochs=4, name="branch_count"):
    """A study over k; 12 cells unless told otherwise."""
    study = Study(name, "Does k matter?", (Factor("k", "model.k", tuple(levels), levels[0]),), "table 6", seeds)
    spec = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 2), in_channels=1)
    recipe = Recipe(epochs=epochs, batch_size=256, augmentation="none", ema_decay=0.0)
    return Plan(study, CellSpec(model=spec, recipe=recipe))


def script(directory: Path, **settings) -> Path:
    """A data root that tells the stand-in what to do: seconds an epoch, cells (by key) that raise."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "settings.json").write_text(json.dumps(settings))
    return directory


def metric(key: str, epoch: int) -> float:
    """A number that names the cell and the epoch."""
    return int(key[:6], 16) / 16**6 + epoch


def train(spec, *, execution, data_root, directory, observer):
    """Epochs that sleep; resumes from last.ckpt, writes it whole after each epoch, leaves weights.safetensors."""
    settings = json.loads((data_root / "settings.json").read_text()) if data_root else {}
    path, history = directory / "last.ckpt", []
    if path.exists():
        history = [EpochRecord(**item) for item in json.loads(path.read_text())]
        observer.resumed(history)
    directory.mkdir(parents=True, exist_ok=True)
    for epoch in range(len(history) + 1, spec.recipe.epochs + 1):
        for _ in range(4):
            time.sleep(settings.get("seconds", 0.0) / 4)
            observer.batch_finished()
        if spec.key in settings.get("raising", ()) and epoch == 2:
            raise ValueError("the loss went away\nfor ever")
        if spec.key in settings.get("deadly", ()) and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        metrics = {"val/top1": metric(spec.key, epoch), "train/loss": 1.0 / epoch}
        record = EpochRecord(epoch, 10 * epoch, time.time_ns() // 1_000_000, metrics)
        observer.epoch_finished(record)
        history.append(record)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_text(json.dumps([asdict(item) for item in history]))
        aside.replace(path)
    weights = directory / "weights.safetensors"
    weights.write_bytes(spec.key.encode())
    last = history[-1].metrics["val/top1"]
    return CellResult({"test/top1": last + 0.5, "val/top1": last, "time/train_seconds": 1.0}, weights)


class Lines:
    """A display that only listens."""

    def __init__(self):
        self.lines, self.seen = [], []

    def begin(self, states, workers):
        self.workers = workers
        self.seen.append(list(states))

    def update(self, states):
        self.seen.append(list(states))

    def say(self, line):
        self.lines.append(line)

    def end(self):
        pass
