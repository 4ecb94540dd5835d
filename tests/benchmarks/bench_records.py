"""Seconds and memory of what reads a record, on records of any size.

    python tests/benchmarks/bench_records.py [--cells 1000 10000 100000] [--epochs 20] [--directory DIR]
    python tests/benchmarks/bench_records.py --check

A record of branch_count is made in seconds: the planner and a worker run one cell per level, with a stand-in for
training; the database rows of these cells are then copied for all other seeds. --check compares such rows with those
of a study that really trains two cells. --directory keeps the records, and measures those that it holds already.
"""

import argparse
import contextlib
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    later = [cell for cell in plan.cells if cell.seed]
    runs_in_order = sorted(f"{noise.getrandbits(128):032x}" for _ in later)  # SQLite appends to its indexes
    others = [
        Copy(cell, number, run_id, 0.9 + noise.gauss(0, 0.005))
        for number, (cell, run_id) in enumerate(zip(later, runs_in_order, strict=True), len(first))
    ]
    copy_runs(runs / "mlflow.db", first, others)
    copy_trials(runs / "optuna.db", first, others)


@dataclass(frozen=True)
class Copy:
    """A cell whose rows are copied from its level's first seed: its trial's number, its run and its test/top1."""

    cell: PlannedCell
    number: int
    run_id: str
    value: float


@contextlib.contextmanager
def copying(path: Path, owners: dict[int, object], copies: Sequence[Copy]) -> Iterator[sqlite3.Connection]:
    """Open a database with a table `copy`: a row per copy, `first` the run or trial of its level in owners."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TEMP TABLE copy (first, run, number, value, cell, seed, spec)")
        rows = (
            (owners[c.cell.factors["k"]], c.run_id, c.number, c.value, c.cell.key, c.cell.seed, c.cell.spec.to_json())
            for c in copies
        )
        connection.executemany("INSERT INTO copy VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        yield connection
        connection.commit()


def copy_rows(connection: sqlite3.Connection, table: str, owner: str, changes: dict[str, str], skip: int = 0) -> None:
    """Insert the rows of the first seed's runs or trials for each copy; changes are SQL by column, skip drops columns.

    Indexes without a constraint are built afterwards, in one pass.
    """
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")][skip:]
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
    indexes = connection.execute(query, (table,)).fetchall()
    connection.execute("DROP TABLE IF EXISTS temp.original")
    query = f"CREATE TEMP TABLE original AS SELECT * FROM {table} WHERE {owner} IN (SELECT first FROM copy)"
    connection.execute(query)
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(changes.get(name, f'row."{name}"') for name in names)
    source = f"copy CROSS JOIN original AS row ON row.{owner} = copy.first"
    connection.execute(f"CREATE INDEX temp.by_owner ON original ({owner})")
    connection.execute(f"INSERT INTO {table} ({columns}) SELECT {values} FROM {source}")
    for _, sql in indexes:
        connection.execute(sql)


def copy_runs(path: Path, first: dict[int, PlannedCell], copies: Sequence[Copy]) -> None:
    """Copy the runs of the first seed for all others."""
    renamed = "replace(row.{}, 'seed=0', 'seed=' || copy.seed)"
    value = f"""CASE row.key WHEN 'test/top1' THEN copy.value WHEN 'mlflow.runName' THEN {renamed.format("value")}
        WHEN 'cell' THEN copy.cell WHEN 'seed' THEN copy.seed WHEN 'trial' THEN copy.number ELSE row.value END"""
    artifacts = "replace(row.artifact_uri, row.run_uuid, copy.run)"
    run = {"run_uuid": "copy.run", "artifact_uri": artifacts, "name": renamed.format("name")}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT run_uuid FROM tags WHERE key = 'cell' AND value = ?"
        ids = {level: connection.execute(query, (cell.key,)).fetchone()[0] for level, cell in first.items()}
    with copying(path, ids, copies) as connection:
        copy_rows(connection, "runs", "run_uuid", run)
        for table in ("tags", "params", "metrics", "latest_metrics"):
            copy_rows(connection, table, "run_uuid", {"run_uuid": "copy.run", "value": value})


def copy_trials(path: Path, first: dict[int, PlannedCell], copies: Sequence[Copy]) -> None:
    """Copy the trials of the first seed for all others."""
    value = """CASE row.key WHEN 'cell' THEN json_quote(copy.cell) WHEN 'seed' THEN copy.seed
        WHEN 'spec' THEN json_quote(copy.spec) WHEN 'runs' THEN json_array(copy.run) ELSE row.value_json END"""
    trial = {"trial_id": "copy.number + 1", "number": "copy.number"}
    attribute = {"trial_id": "copy.number + 1", "value_json": value}
    result = {"trial_id": "copy.number + 1", "value": "copy.value"}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT trial_id FROM trial_user_attributes WHERE key = 'cell' AND value_json = ?"
        ids = {level: connection.execute(query, (f'"{cell.key}"',)).fetchone()[0] for level, cell in first.items()}
    with copying(path, ids, copies) as connection:
        copy_rows(connection, "trials", "trial_id", trial)
        for table in ("user_attributes", "system_attributes"):
            copy_rows(connection, f"trial_{table}", "trial_id", attribute, skip=1)
        for table in ("values", "intermediate_values", "heartbeats"):
            copy_rows(connection, f"trial_{table}", "trial_id", result, skip=1)


def shapes(runs: Path) -> set[tuple[object, ...]]:
    """Names and counts of the rows that every run and trial has, without values."""
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
