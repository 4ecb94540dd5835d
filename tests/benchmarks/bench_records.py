"""Seconds and memory of what reads a record, on records of any size.

    python tests/benchmarks/bench_records.py [--cells 1000 10000 100000] [--epochs 20] [--directory DIR]
    python tests/benchmarks/bench_records.py --check

A record of branch_count is made in seconds: the planner and a worker run one cell per level, with a stand-in for
training; the database rows of these cells are then copied for all other seeds. --check compares such rows with those
of a study that really trains two cells. --directory keeps the records, and measures those that it holds already.
"""

import argparse
import json
import multiprocessing
import os
import random
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileone_core.data.spec import DataSpec
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.workspace import Engine, Job, Setup, Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import CellResult, EpochRecord, Observer

CURVES = ("train/loss", "train/learning_rate", "train/weight_decay", "val/loss", "val/top1", "val/top5")
FINAL = ("images", "loss", "top1", "top5", "form_difference", "form_difference_relative")
CONSOLE = [sys.executable, "-c", "from mobileone_core.cli import console; console()"]
FILE = Path(__file__).parents[2] / "studies" / "branch_count.py"
STUDY_COMMAND, STUDY = [sys.executable, str(FILE)], runpy.run_path(str(FILE))["STUDY"]


def train(
    spec: CellSpec,
    *,
    execution: Execution,
    data_root: Path | None,
    directory: Path,
    observer: Observer,
    teachers: object,
) -> CellResult:
    """Stand in for training: log what a real cell logs."""
    for epoch in range(1, spec.recipe.epochs + 1):
        metrics = {**dict.fromkeys(CURVES, 0.9 - 0.4 / epoch), "time/epoch_seconds": 0.5}
        observer.epoch_finished(EpochRecord(epoch, 10 * epoch, time.time_ns() // 1_000_000, metrics))
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "weights.safetensors"
    weights.write_bytes(b"weights")
    final = {f"test/{name}": 0.9 for name in FINAL}
    return CellResult({**metrics, **final, "time/train_seconds": 0.5 * spec.recipe.epochs}, weights)


def plan_of(seeds: int, epochs: int, levels: Sequence[int]) -> GridPlan:
    """The plan of `branch_count.py --k LEVELS --seeds SEEDS --epochs EPOCHS`."""
    preset = preset_cell(STUDY.variant, DataSpec(), STUDY.recipe, STUDY.base)
    study = replace(STUDY, seeds=seeds, factors=(replace(STUDY.factors[0], levels=tuple(levels)),))
    return GridPlan(study, replace(preset, recipe=preset.recipe.changed(epochs=epochs)))


def make_record(runs: Path, plan: GridPlan) -> None:
    """Fill a workspace as the finished plan would: its first seed by planner and worker, copies for the others."""
    from mobileone_core.study.record.record import Record
    from mobileone_core.study.run.planner import plan_cells
    from mobileone_core.study.run.worker import StopRequest, Worker

    workspace = Workspace.at(runs)
    engine = Engine(train="bench_records:train", preload="bench_records:train")
    plan_cells(replace(plan, study=replace(plan.study, seeds=1)), workspace, engine.timing)
    setup = Setup(workspace, execution=Execution("cpu"), engine=engine)
    Worker(Job(setup, plan.queue), StopRequest()).run()
    Record(workspace.tracking).save_plan(plan, workspace.artifacts)
    noise, first = random.Random(0), {cell.factors["k"]: cell for cell in plan.cells if cell.seed == 0}
    others = [
        Copy(cell, number, f"{noise.getrandbits(128):032x}", 0.9 + noise.gauss(0, 0.005))
        for number, cell in enumerate(cell for cell in plan.cells if cell.seed)
    ]
    others = [replace(item, number=item.number + len(first)) for item in others]
    copy_runs(runs / "mlflow.db", first, others)
    copy_trials(runs / "optuna.db", first, others)


@dataclass(frozen=True)
class Copy:
    """A cell whose rows are copied from its level's first seed: its trial's number, its run and its test/top1."""

    cell: PlannedCell
    number: int
    run_id: str
    value: float

    def rename(self, name: str) -> str:
        """The name of a run of seed 0 for this seed."""
        return name.replace("seed=0", f"seed={self.cell.seed}")


class Template:
    """The rows of a table that belong to one run or trial per level; skip drops the first columns."""

    def __init__(self, connection: sqlite3.Connection, table: str, owner: str, ids: dict[int, object], skip: int = 0):
        self.connection, self.table, self.rows = connection, table, {}
        for level, number in ids.items():
            cursor = connection.execute(f"SELECT * FROM {table} WHERE {owner} = ?", (number,))
            self.rows[level] = [row[skip:] for row in cursor]
        self.columns = [item[0] for item in cursor.description][skip:]

    def insert(self, copies: Sequence[Copy], change: Callable[[Copy, dict[str, Any]], None]) -> None:
        """Insert each copy's rows; change sets the columns that differ from the template's."""

        def changed() -> Iterator[tuple[object, ...]]:
            for copy in copies:
                for row in self.rows[copy.cell.factors["k"]]:
                    values = dict(zip(self.columns, row, strict=True))
                    change(copy, values)
                    yield tuple(values.values())

        marks = ", ".join("?" * len(self.columns))
        query = f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({marks})"
        self.connection.executemany(query, changed())


def copy_runs(path: Path, first: dict[int, PlannedCell], copies: Sequence[Copy]) -> None:
    """Copy the runs of the first seed for all others."""

    def change_run(copy: Copy, row: dict[str, Any]) -> None:
        row["artifact_uri"] = row["artifact_uri"].replace(row["run_uuid"], copy.run_id)
        row["name"], row["run_uuid"] = copy.rename(row["name"]), copy.run_id

    def change_value(copy: Copy, row: dict[str, Any]) -> None:
        row["run_uuid"], key = copy.run_id, row["key"]
        if key == "test/top1":
            row["value"] = copy.value
        elif key == "mlflow.runName":
            row["value"] = copy.rename(row["value"])
        elif key in ("cell", "seed", "trial"):
            row["value"] = {"cell": copy.cell.key, "seed": str(copy.cell.seed), "trial": str(copy.number)}[key]

    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        query = "SELECT run_uuid FROM tags WHERE key = 'cell' AND value = ?"
        ids = {level: connection.execute(query, (cell.key,)).fetchone()[0] for level, cell in first.items()}
        Template(connection, "runs", "run_uuid", ids).insert(copies, change_run)
        for table in ("tags", "params", "metrics", "latest_metrics"):
            Template(connection, table, "run_uuid", ids).insert(copies, change_value)


def copy_trials(path: Path, first: dict[int, PlannedCell], copies: Sequence[Copy]) -> None:
    """Copy the trials of the first seed for all others."""

    def change(copy: Copy, row: dict[str, Any]) -> None:
        cell, row["trial_id"] = copy.cell, copy.number + 1
        if "number" in row:
            row["number"] = copy.number
        elif "value" in row:
            row["value"] = copy.value
        elif row.get("key") in ("cell", "seed", "spec", "runs"):
            changed = {"cell": cell.key, "seed": cell.seed, "spec": cell.spec.to_json(), "runs": [copy.run_id]}
            row["value_json"] = json.dumps(changed[row["key"]])

    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        query = "SELECT trial_id FROM trial_user_attributes WHERE key = 'cell' AND value_json = ?"
        ids = {level: connection.execute(query, (f'"{cell.key}"',)).fetchone()[0] for level, cell in first.items()}
        Template(connection, "trials", "trial_id", ids).insert(copies, change)
        for table in ("user_attributes", "system_attributes", "values", "intermediate_values", "heartbeats"):
            Template(connection, f"trial_{table}", "trial_id", ids, skip=1).insert(copies, change)


def shapes(runs: Path) -> set[tuple[object, ...]]:
    """What every run and trial consists of: names and counts, without values."""
    found: set[tuple[object, ...]] = set()
    for name, owner, tables in (
        ("mlflow", "run_uuid", ("tags", "params", "metrics", "latest_metrics")),
        ("optuna", "trial_id", ("trial_user_attributes", "trial_system_attributes")),
    ):
        with sqlite3.connect(runs / f"{name}.db") as connection:
            for table in tables:
                counts: dict[object, Counter[str]] = {}
                for number, key in connection.execute(f"SELECT {owner}, key FROM {table} WHERE key != 'warning'"):
                    counts.setdefault(number, Counter())[key] += 1
                found |= {(table, *sorted(count.items())) for count in counts.values()}
    with sqlite3.connect(runs / "optuna.db") as connection:
        for table in ("trial_values", "trial_intermediate_values"):
            query = f"SELECT DISTINCT count(*) FROM {table} GROUP BY trial_id"
            found |= {(table, count) for (count,) in connection.execute(query)}
    return found


def check() -> None:
    """Compare a made record with one of a study that trained two cells."""
    with tempfile.TemporaryDirectory() as directory:
        real, made = Path(directory) / "real", Path(directory) / "made"
        options = ["--k", "1", "2", "--seeds", "1", "--epochs", "3"]
        subprocess.run([*STUDY_COMMAND, *options, "--runs", str(real)], check=True, capture_output=True)
        made_in_child(made, plan_of(2, 3, (1, 2)))
        difference = shapes(real) ^ shapes(made)
        print("\n".join(map(str, difference)) or "rows of a made record are those of a real one")
        sys.exit(bool(difference))


def made_in_child(runs: Path, plan: GridPlan) -> None:
    """Make a record in a process of its own, as the worker changes the answers to signals."""
    child = multiprocessing.get_context("spawn").Process(target=make_record, args=(runs, plan))
    child.start()
    child.join()
    assert child.exitcode == 0


def measure(name: str, command: Sequence[str], expected: str = "") -> None:
    """Run a command and print wall seconds, user and system CPU seconds, and peak memory."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        assert status == 0, command
        assert expected in output.read(), command
    cpu = usage.ru_utime + usage.ru_stime
    print(f"  {name:<34} {seconds:>8.2f} {cpu:>8.2f} {usage.ru_maxrss / 1024:>8.0f}", flush=True)


def measure_record(cells: int, epochs: int, directory: Path) -> None:
    """Make a record of so many cells, unless the directory holds it, and measure all that reads it."""
    levels = STUDY.factors[0].levels
    plan = plan_of(max(2, round(cells / len(levels))), epochs, levels)
    runs, clone = directory / f"cells{cells}", directory / f"clone{cells}"
    start = time.perf_counter()
    if not runs.exists():
        made_in_child(runs, plan)
    size = sum((runs / name).stat().st_size for name in ("mlflow.db", "optuna.db")) / 1e6
    print(f"{len(plan.cells):,} cells, {size:.0f} MB, made in {time.perf_counter() - start:.0f} s")
    print(f"  {'':<34} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    shutil.rmtree(runs / "reports", ignore_errors=True)
    report = [*CONSOLE, "report", "branch_count", "--runs"]
    measure("report from the record, first time", [*report, str(runs)])
    measure("report from the record, unchanged", [*report, str(runs)])
    shutil.rmtree(clone, ignore_errors=True)
    drawn = shutil.ignore_patterns("*.md", "figure*", "table*")
    shutil.copytree(runs / "reports", clone / "reports", ignore=drawn)
    alone = [*report, str(clone / "runs"), "--reports", str(clone / "reports")]
    measure("report from cells.csv, first time", alone)
    measure("report from cells.csv, unchanged", alone)
    options = ["--seeds", str(plan.study.seeds), "--epochs", str(epochs), "--runs", str(runs)]
    measure("--plan", [*STUDY_COMMAND, *options, "--plan"], f"{len(plan.cells)} complete")
    measure("status", [*CONSOLE, "status", "--runs", str(runs)], f"{len(plan.cells)} complete")
    measure("a study with nothing to do", [*STUDY_COMMAND, *options], "nothing to do")


def main() -> None:
    """Make records and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        check()
    with tempfile.TemporaryDirectory() as temporary:
        for cells in options.cells:
            measure_record(cells, options.epochs, options.directory or Path(temporary))


if __name__ == "__main__":
    main()
