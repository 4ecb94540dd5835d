"""A stand-in for training that obeys its contract in milliseconds, and small plans to run it on."""

import json
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from mobileone_core.benchmark.spec import EntryResult, StepCell
from mobileone_core.latency.cell import Chain, LatencyCell
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.study.workspace import Engine, QueueTiming
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.observer import CellResult, EpochRecord
from mobileone_core.training.recipe import Recipe, Teacher

TRAIN, MEASURE = "study_fakes:train", "study_fakes:measure"
FAST = Engine(QueueTiming(heartbeat=1, grace=3, claim=1.0), TRAIN, MEASURE, preload=TRAIN)
CONTROL = 1.01  # what the stand-in measures of the baseline's twin
FEW_SCENES = {"train": 64, "val": 16, "test": 16}  # four steps of 16


def small_plan(levels=(1, 2, 3, 4), seeds=3, epochs=4, name="branch_count", *, teachers=(), compares="", curves=()):
    """A study over k; 12 cells unless told otherwise, the cells of a seed with the same teachers."""
    factors = (Factor("k", "model.k", tuple(levels), levels[0]),)
    study = Study(name, "Does k matter?", factors, "table 6", seeds=seeds, compares=compares, curves=tuple(curves))
    spec = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 2), in_channels=1)
    recipe = Recipe(
        epochs=epochs,
        batch_size=256,
        augmentation="none",
        ema_decay=0.0,
        teachers=tuple(item if isinstance(item, Teacher) else Teacher(item) for item in teachers),
    )
    return GridPlan(study, CellSpec(model=spec, recipe=recipe))


def script(directory: Path, **settings) -> Path:
    """A data root that tells the stand-in what to do: seconds an epoch, cells (by key) that raise."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "settings.json").write_text(json.dumps(settings))
    return directory


def metric(key: str, epoch: int) -> float:
    """A number that names the cell and the epoch."""
    return int(key[:6], 16) / 16**6 + epoch


def read_settings(data_root):
    return json.loads((data_root / "settings.json").read_text()) if data_root else {}


def keep_time(data_root, key, begin, **more):
    """A line of data_root/times: when something was done, in seconds since 1970."""
    with (data_root / "times").open("a") as file:
        file.write(json.dumps({"key": key, "begin": begin, "end": time.time(), **more}) + "\n")


def kept_times(data_root):
    return [json.loads(line) for line in (data_root / "times").read_text().splitlines()]


def train(spec, *, execution, data_root, directory, observer, teachers):
    """Epochs that sleep; resumes from last.ckpt, writes it whole after each epoch, leaves weights.safetensors.

    A teacher's weights name the cell that trained them.
    """
    settings, begin = read_settings(data_root), time.time()
    for teacher in spec.recipe.teachers:
        expected = teacher.weights or teacher_cell(spec, teacher).key
        assert teachers[teacher].read_text() == expected
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
    if data_root:
        keep_time(data_root, spec.key, begin)
    weights = directory / "weights.safetensors"
    weights.write_bytes(spec.key.encode())
    last = history[-1].metrics["val/top1"]
    return CellResult({"test/top1": last + 0.5, "val/top1": last, "time/train_seconds": 1.0}, weights)


def still_beside(patience=20.0):
    """Workers of the same command that have not ended after so many seconds; a busy machine takes some to end one."""
    end = time.time() + patience
    while True:
        others = [item.pid for item in psutil.Process(os.getppid()).children() if item.pid != os.getpid()]
        if not others or time.time() >= end:
            return others
        time.sleep(0.05)


def measure(spec, *, execution, progress):
    """Rounds without work, and results of the spec's kind."""
    for number in range(spec.protocol.rounds + 1):
        progress(number)
    return {"forms": measured_forms, "latency": measured_latencies, "step": measured_steps}[spec.kind](spec)


def measure_slowly(spec, *, execution, progress):
    """Rounds that take a while; tags say when they were."""
    begin = time.time()

    def slow_progress(number):
        time.sleep(0.1)
        progress(number)

    results = measure(spec, execution=execution, progress=slow_progress)
    return tagged(results, begin=str(begin), end=str(time.time()))


def measure_alone(spec, *, execution, progress):
    """The same; a tag says which workers of the command were still there."""
    return tagged(measure_slowly(spec, execution=execution, progress=progress), beside=json.dumps(still_beside()))


def tagged(results, **tags):
    return [replace(result, tags={**result.tags, **tags}) for result in results]


def measured_forms(spec):
    """Two forms of every entry, the baseline with a control."""
    control = {"control/step_ratio": CONTROL}
    return [
        EntryResult(
            entry.label,
            entry.factors,
            form,
            {"time/step_ms": float(entry.cell.model.k), **(control if entry.label == entry.reference else {})},
            {"step": [[1.0, 2.0]] * spec.protocol.rounds},
        )
        for entry in reversed(spec.entries)
        for form in ("deployed", "train")
    ]


def latency_study():
    """Two activations in two runtimes."""
    factors = (
        Factor("activation", "network.activation", levels=("relu", "gelu"), baseline="relu"),
        Factor("runtime", "runtime.name", levels=("onnxruntime", "torch"), baseline="onnxruntime"),
    )
    return MeasuredStudy(
        "chain_latency", "What does it cost?", factors, base=LatencyCell(Chain()), against=("activation",)
    )


def measured_latencies(spec):
    """Every entry but the last has times, which count the entries."""
    *taken, refused = spec.entries
    results = [
        EntryResult(
            entry.label,
            entry.factors,
            "",
            {"latency/median_ms": float(count), "control/latency_ratio": CONTROL},
            {"latency": [[float(count)] * spec.protocol.burst] * spec.protocol.rounds},
            {"runtime": entry.cell.runtime.name, "threads": str(entry.cell.runtime.threads)},
        )
        for count, entry in enumerate(taken, 1)
    ]
    return [*results, EntryResult(refused.label, refused.factors, "", {}, {}, {}, "no such operator")]


def step_study():
    """Two paths and timm's over k = 1 and 4."""
    factors = (
        Factor("path", "step.path", levels=("branches", "folded", "timm"), baseline="branches"),
        Factor("k", "step.k", levels=(1, 4), baseline=1),
    )
    base = StepCell(batch_size=2, image_size=64, threads=1)
    return MeasuredStudy("step_cost", "What does it cost?", factors, base=base, view="training")


def measured_steps(spec):
    """A step takes k milliseconds."""
    return [
        EntryResult(
            entry.label,
            entry.factors,
            "",
            {"time/step_ms": float(entry.cell.k), "control/step_ratio": CONTROL},
            {"step": [[float(entry.cell.k)] * spec.protocol.burst] * spec.protocol.rounds},
        )
        for entry in spec.entries
    ]


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


def train_and_die(spec, *, directory, observer, **rest):
    """Real training on few scenes; the first attempt at a cell is killed in its second epoch."""
    from mobileone_core.data.annotated import loaders
    from mobileone_core.training.run import train_cell

    loaders.SCENES.update(FEW_SCENES)  # of this worker alone
    is_first, batch_finished, batches = not (directory / "last.ckpt").exists(), observer.batch_finished, []

    def count(*progress):
        batches.append(progress)
        if is_first and len(batches) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        batch_finished(*progress)

    observer.batch_finished = count
    return train_cell(spec, directory=directory, observer=observer, **rest)
