"""Cost of the engine: a small study through queue and record against the same Lightning fits without them.

    python tests/benchmarks/bench_engine.py [--rounds N] [--workers N]

Both ways train the same cells with as many processes, started alike; figures are seconds from the first cell's start
to the last one's end, and their ratio round by round, in turns.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mobileone_core.cli.options.study import parse
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Setup, Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import EpochRecord

sys.path.insert(0, str(Path(__file__).parents[2] / "studies"))


class Silent:
    """An observer, and a display, that does nothing."""

    def resumed(self, history: Sequence[EpochRecord]) -> None: ...
    def epoch_finished(self, record: EpochRecord) -> None: ...
    def batch_finished(self, *_) -> None: ...
    def begin(self, *_: object) -> None: ...
    def update(self, *_: object) -> None: ...
    def say(self, *_: object) -> None: ...
    def end(self, *_: object) -> None: ...


def fit(cell: CellSpec) -> tuple[float, float]:
    """Train one cell in this process; when it began and ended."""
    from mobileone_core.training.run import train_cell

    start = time.time()
    with tempfile.TemporaryDirectory() as directory:
        train_cell(cell, execution=Execution(), data_root=None, directory=Path(directory), observer=Silent())
    return start, time.time()


def plain(plan: GridPlan, workers: int) -> float:
    """Seconds of the plain fits."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mobileone_core.training.run"])
    with context.Pool(workers) as pool:
        spans = pool.map(fit, [cell.spec for cell in plan.cells], chunksize=1)
    return max(end for _, end in spans) - min(start for start, _ in spans)


def engine(plan: GridPlan, workers: int) -> float:
    """Seconds of the same cells as a study, from the first claim to the last cell's end."""
    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace.at(Path(directory))
        run_study(plan, Setup(workspace, workers), Silent())
        states = cell_states(workspace, plan)
    starts = [item.started for item in states if item.started]
    ends = [item.ended for item in states if item.ended]
    return (max(ends) - min(starts)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    from branch_count import STUDY

    usual = parse(STUDY, ()).request.plan
    plan = GridPlan(replace(usual.study, seeds=1), usual.base)
    ratios = []
    for _ in range(arguments.rounds):
        through, without = engine(plan, arguments.workers), plain(plan, arguments.workers)
        ratios.append(through / without)
        print(f"engine {through:6.1f} s   plain {without:6.1f} s   ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} over {len(ratios)} rounds")


if __name__ == "__main__":
    main()
