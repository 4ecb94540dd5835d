"""Checks after a chaos trial: a list of the conditions that do not hold."""

import re
import tempfile
import time
from pathlib import Path

import torch
from chaos_cells import DATA, expected_state, is_real, number
from safetensors.torch import load_file
from study_proof import assert_exactly_once

from mobileone_core.study.record.access import open_record
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import WEIGHTS, Record
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import NullObserver
from mobileone_core.training.run import train_cell

UNDERSTOOD = re.compile(
    r"not a checkpoint of this version; delete it|test/top1 is nan|not finite|MemoryError: out of memory"
    r"|No space left on device|disk is full|Read-only file system|No such file|Permission denied|disk I/O error"
)
LEFT = (".new", ".last.ckpt", ".weights")  # parts of the names of half-made files
SECONDS = 20.0  # that processes may take to end


def problems_of(site):
    """All that is wrong at the end of a trial, one line each."""
    problems = []
    try:
        assert_exactly_once(site.plan, site.workspace)
    except AssertionError as error:
        problems.append(f"not exactly once: {' '.join(str(error).split())[:600]}")
    problems += wrong_results(site)
    problems += strange_reasons(site)
    problems += tracebacks(site)
    problems += orphans(site)
    return problems


def wrong_results(site):
    """Cells that differ from uninterrupted ones in a bit."""
    record = Record(site.workspace.tracking)
    rows = {row.key: row for row in read_record(site.workspace.tracking, site.plan).rows}
    content = (site.data / DATA).read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        for cell in site.plan.cells:
            if cell.key not in rows:
                continue
            row, path = rows[cell.key], Path(directory) / cell.key
            saved = record.file(row.run_id, WEIGHTS, path)
            if is_real(cell.spec):
                options = {"execution": Execution("cpu"), "data_root": None, "observer": NullObserver()}
                again = train_cell(cell.spec, directory=path / "again", **options)
                one, other = load_file(saved), load_file(again.weights)
                same = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
                names = [name for name in again.metrics if not name.startswith("time/")]
                same = same and all(row.metrics[name] == again.metrics[name] for name in names)
            else:
                state = expected_state(cell.spec, content)
                same = saved.read_text() == state and row.metrics["test/top1"] == number(state)
            if not same:
                yield f"cell {cell.key} differs from an uninterrupted one"


def strange_reasons(site):
    """Failures whose reason nobody understands, in the queue and in the record."""
    for trial in site.trials():
        error = trial.attributes.get("error")
        if error is not None and not UNDERSTOOD.search(error):
            yield f"trial {trial.number} failed with {error!r}"
    with open_record(site.workspace.tracking) as record:
        statuses = record.statuses(site.plan.study.name, site.plan.queue)
    reader = Record(site.workspace.tracking)
    for run in statuses:
        if run.status == "FAILED" and not reader.client.get_run(run.run_id).data.tags.get("error"):
            yield f"run {run.run_id} is FAILED without a reason"


def tracebacks(site):
    """Commands that ended in a traceback."""
    for log in site.logs:
        text = log.read_text(errors="replace")
        if "Traceback" in text:
            yield f"{log.name}: {' | '.join(text[text.index('Traceback') :].strip().splitlines()[-3:])[:500]}"


def orphans(site):
    """Processes and files that nobody needs."""
    end = time.monotonic() + SECONDS
    while (left := site.marked()) and time.monotonic() < end:
        time.sleep(0.2)
    yield from (f"process {item.pid} is left: {' '.join(item.cmdline())[:120]}" for item in left)
    checkpoints = site.workspace.checkpoints(site.plan.queue, "")
    yield from (f"{path} is left" for path in checkpoints.rglob("*"))
    yield from (f"{path} is left" for path in site.runs.rglob(".*") if any(part in path.name for part in LEFT))
    if not site.mlflow:
        runs = {item.info.run_id for item in Record(site.workspace.tracking).runs(site.plan.study.name, "")}
        folders = site.workspace.artifacts / site.plan.study.name
        yield from (f"{path} belongs to no run" for path in folders.iterdir() if path.name not in runs)
