"""Throughput of queue and record: claims per second of several processes, and calls per second that log an epoch.

    python tests/benchmarks/bench_queue.py --cells 400 --processes 4     # a Markdown table; SQLite, then PostgreSQL

A claim is all that a worker does with the queue for a cell of one epoch: sweep, claim, owner, epoch, result.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from servers import MlflowServer, Postgres
from study_fakes import FAST, small_plan

from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import create_queue
from mobileone_core.study.record.record import Record, create_record
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.observer import EpochRecord

EPOCH = {f"metric/{number}": float(number) for number in range(10)}


def claim_all(url, name):
    queue = Queue(url, name, FAST.timing, lambda _: None)

    def attempt(claim):
        claim.report(1, 0.5)
        return 1.0

    while queue.claimable(queue.trials()):
        queue.sweep()
        queue.claim(attempt)


def log_epochs(workspace, plan, count):
    record = Record(workspace.tracking)
    run = record.start(plan.cells[0], {"trial": "0", "attempt": "1"})
    for epoch in range(1, count + 1):
        run.log_epochs([EpochRecord(epoch, epoch, 1000 * epoch, EPOCH)])
    record.end(run.run_id, "FINISHED")


def timed(function, arguments, processes):
    """Seconds that processes take to run a function side by side, without their start."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=function, args=arguments) for _ in range(processes)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def measure(name, workspace, cells, processes):
    plan = small_plan((1, 2, 3, 4), cells // 4, epochs=1)
    workspace.runs.mkdir()
    create_queue(workspace.queue)
    create_record(workspace)
    Record(workspace.tracking).create_experiment(plan.study.name, workspace.artifacts)
    queue = Queue(workspace.queue, plan.queue, FAST.timing, lambda _: None, create=True)
    for cell in plan.cells:
        queue.enqueue(cell, "test/top1", 1)
    queue._storage.engine.dispose()  # connections do not survive a fork
    claims = len(plan.cells) / timed(claim_all, (workspace.queue, plan.queue), processes)
    epochs = cells // processes
    logged = epochs * processes / timed(log_epochs, (workspace, plan, epochs), processes)
    print(f"| {name} | {claims:.0f} | {logged:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    print(f"| {options.cells} cells, {options.processes} processes | claims per s | epochs logged per s |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        directory.chmod(0o755)
        measure("SQLite files", Workspace.at(directory / "files"), options.cells, options.processes)
        postgres = Postgres(directory / "postgres")
        server = MlflowServer(postgres.database("record"), directory / "shared", directory / "log")
        server.start()
        workspace = Workspace.at(directory / "servers", postgres.database("queue"), server.url)
        measure("PostgreSQL, MLflow server", workspace, options.cells, options.processes)
        server.kill()
        postgres.stop()


if __name__ == "__main__":
    main()
