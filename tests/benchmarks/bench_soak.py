"""A soak: hundreds of tiny cells in one worker. What a cell costs, and what the process holds, must stay flat.

    python tests/benchmarks/bench_soak.py --cells 300                       # real training, queue and record in SQLite
    python tests/benchmarks/bench_soak.py --cells 300 --pretend             # the engine alone
    python tests/benchmarks/bench_soak.py --cells 300 --pretend --queue postgresql       # behind an MLflow server

Prints a Markdown table of every 40th cell, and the overhead per cell: all that is not training. CPU seconds are those
of the worker alone; the overhead in wall time includes waiting for servers.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from servers import MlflowServer, Postgres
from soak import FIRST, growth, overheads, samples, work

from mobileone_core.study.workspace import Workspace

STEP = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--pretend", action="store_true", help="without training")
    parser.add_argument("--queue", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        directory.chmod(0o755)
        queue, tracking, servers = "", "", []
        if options.queue == "postgresql":
            postgres = Postgres(directory / "postgres")
            mlflow = MlflowServer(postgres.database("record"), directory / "shared", directory / "log")
            mlflow.start()
            queue, tracking, servers = postgres.database("queue"), mlflow.url, [mlflow.kill, postgres.stop]
        workspace = Workspace.at(directory / "runs", queue, tracking)
        try:
            call = (workspace, directory / "data", options.cells, not options.pretend)
            worker = multiprocessing.get_context("spawn").Process(target=work, args=call)
            worker.start()
            worker.join()
        finally:
            for stop in servers:
                stop()
        report(samples(directory / "data"))


def report(lines):
    cpu, wall = overheads(lines), overheads(lines, "began", "seconds")
    print("| cell | memory, MB | handles | threads | training, CPU s | overhead, CPU s | overhead, s |")
    print("|---|---|---|---|---|---|---|")
    for number in [FIRST, *range(STEP, len(lines), STEP), len(lines) - 1]:
        line, part = lines[number - 1], slice(max(number - 10, 0), number)
        times = [statistics.median(values[part]) for values in ([item["cpu_seconds"] for item in lines], cpu, wall)]
        held = f"{line['mb']:.0f} | {line['handles']} | {line['threads']}"
        print(f"| {number} | {held} | {' | '.join(f'{value:.3f}' for value in times)} |")
    for name, (first, last) in growth(lines).items():
        print(f"{name}: {first:.3f} at the {FIRST}th cell, {last:.3f} at the end")
    print(f"overhead per cell, median: {statistics.median(cpu):.3f} CPU s, {statistics.median(wall):.3f} s")


if __name__ == "__main__":
    main()
