"""Many cells in one worker: what each costs, and what the process holds after it."""

import json
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path

import psutil
from study_fakes import small_plan
from study_fakes import train as pretend

from mobileone_core.study.run.planner import plan_cells
from mobileone_core.study.run.worker import StopRequest, Worker
from mobileone_core.study.workspace import Engine, Job, Setup

SAMPLES = "samples.jsonl"
FIRST = 20  # cells until all is imported and every cache is filled


def train(spec, *, execution, data_root, directory, observer, teachers):
    """Train in earnest, or pretend to if data_root says so; append a line of what it took to data_root's samples."""
    from mobileone_core.training.run import train_cell

    began, used = time.time(), time.process_time()
    options = {"execution": execution, "directory": directory, "observer": observer, "teachers": teachers}
    if (data_root / "pretend").exists():
        result = pretend(spec, data_root=None, **options)
    else:
        result = train_cell(spec, data_root=None, **options)
    process = psutil.Process()
    line = {
        "began": began,
        "seconds": time.time() - began,
        "cpu_began": used,
        "cpu_seconds": time.process_time() - used,
        "mb": process.memory_info().rss / 1e6,
        "handles": process.num_fds(),
        "threads": process.num_threads(),
    }
    with (data_root / SAMPLES).open("a") as file:
        file.write(json.dumps(line) + "\n")
    return result


def work(workspace, data_root, cells, real):
    """Plan so many cells of one epoch and work on all of them in this process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    data_root.mkdir(parents=True)
    if not real:
        (data_root / "pretend").touch()
    engine = Engine(train="soak:train")
    plan = small_plan(levels=(1, 2), seeds=cells // 2, epochs=1, name="soak")
    plan_cells(plan, workspace, engine.timing)
    Worker(Job(Setup(workspace, data_root=data_root, engine=engine), plan.queue), StopRequest()).run()
    assert not [*workspace.checkpoints(plan.queue, "").iterdir()]


def samples(data_root):
    return [json.loads(line) for line in (Path(data_root) / SAMPLES).read_text().splitlines()]


def overheads(lines, began="cpu_began", seconds="cpu_seconds"):
    """Per cell but the last: the time from its end to the next one's beginning, CPU time by default."""
    return [after[began] - one[began] - one[seconds] for one, after in pairwise(lines)]


def growth(lines):
    """Medians of the first and the last tenth after FIRST: MB, handles, threads, CPU seconds of cell and overhead."""
    lines = [line | {"overhead": value} for line, value in zip(lines, overheads(lines), strict=False)][FIRST:]
    tenth = max(len(lines) // 10, 5)
    return {
        name: tuple(statistics.median(line[name] for line in part) for part in (lines[:tenth], lines[-tenth:]))
        for name in ("mb", "handles", "threads", "cpu_seconds", "overhead")
    }
