"""The cells of a chaos trial: cheap ones whose result names every epoch that led to it, and a few that really train.

python chaos_cells.py SETTINGS, a JSON file, runs them as a command; it prints the states of the cells as JSON.
"""

import hashlib
import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
from study_fakes import small_plan

from mobileone_core.cli.guard import guarded
from mobileone_core.errors import InputError
from mobileone_core.files import write_whole
from mobileone_core.study.run.progress import Progress
from mobileone_core.study.run.runner import join, run_study
from mobileone_core.study.workspace import Engine, QueueTiming, Setup, Workspace
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import CellResult, EpochRecord

TRAIN = "chaos_cells:train"
LEVELS, EPOCHS = (1, 2, 3, 4), 6
REAL_SEEDS = (0,)  # the seeds whose cells at k = 1 train in earnest
DATA = "images"  # the file that a cell reads in every epoch
TIMING = QueueTiming(heartbeat=2, grace=6, claim=2.0, busy=20.0)


def chaos_plan(seeds):
    return small_plan(LEVELS, seeds, EPOCHS, "chaos")


def is_real(spec):
    return spec.seed in REAL_SEEDS and spec.model.k == 1


def train(spec, *, execution, data_root, directory, observer, teachers):
    """Epochs that sleep, each a hash of the one before; obeys the contract of train_cell."""
    if is_real(spec):
        from mobileone_core.training.run import train_cell

        return train_cell(spec, execution=execution, data_root=None, directory=directory, observer=observer)
    path, state, history = directory / "last.ckpt", spec.key, []
    if path.exists():
        state, history = read(path)
        observer.resumed(history)
    directory.mkdir(parents=True, exist_ok=True)
    seconds = json.loads((data_root / "settings.json").read_text())["seconds"]
    for epoch in range(len(history) + 1, spec.recipe.epochs + 1):
        for _ in range(4):
            time.sleep(seconds / 4)
            observer.batch_finished()
        content = (data_root / DATA).read_bytes()
        state = hashlib.sha256(f"{state} {epoch}".encode() + content).hexdigest()
        value = number(state)
        match fault_of(data_root, spec.key):
            case "nan":
                return CellResult({"test/top1": float("nan")}, path)
            case "memory":
                exhaust_memory()
        now, metrics = time.time_ns() // 1_000_000, {"val/top1": value, "train/loss": 1 - value}
        record = EpochRecord(epoch, 10 * epoch, now, metrics)
        observer.epoch_finished(record)
        history.append(record)
        text = json.dumps([state, [asdict(item) for item in history]])
        write_whole(path, lambda aside, text=text: aside.write_text(text))
    value, weights = history[-1].metrics["val/top1"], directory / "weights.safetensors"
    write_whole(weights, lambda aside: aside.write_text(state))
    return CellResult({"test/top1": value, "val/top1": value, "time/train_seconds": 1.0}, weights)


def read(path):
    """State and history of a checkpoint, refused as train_cell refuses."""
    try:
        state, history = json.loads(path.read_text())
        return state, [EpochRecord(**item) for item in history]
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of this version; delete it to start this cell afresh") from error


def number(state):
    return int(state[:12], 16) / 16**12


def expected_state(spec, content):
    """The final state of an uninterrupted cell."""
    state = spec.key
    for epoch in range(1, spec.recipe.epochs + 1):
        state = hashlib.sha256(f"{state} {epoch}".encode() + content).hexdigest()
    return state


def fault_of(data_root, key):
    """The fault that the trial has put into a cell, once; empty if none."""
    try:
        path = data_root / f"fault-{key}"
        fault = path.read_text()
        path.unlink()
    except FileNotFoundError:
        return ""
    return fault


def exhaust_memory():
    """Ask for more memory than the process may have."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**26, limits[1]))
    try:
        bytearray(2**34)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def command():
    settings = json.loads(Path(sys.argv[1]).read_text())
    workspace = Workspace.at(Path(settings["runs"]), settings["queue"], settings["tracking"])
    engine = Engine(TIMING, TRAIN, preload=TRAIN)
    setup = Setup(workspace, settings["workers"], Execution("cpu"), Path(settings["data_root"]), engine=engine)
    work = join if settings.get("join") else run_study
    outcome = work(chaos_plan(settings["seeds"]), setup, Progress())
    print(json.dumps({"states": [item.state for item in outcome.states], "interrupted": outcome.interrupted}))
    return 0 if outcome.is_complete else 1


if __name__ == "__main__":
    sys.exit(guarded(command))
