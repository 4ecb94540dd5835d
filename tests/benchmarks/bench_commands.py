"""Whole-process times of commands that must answer at once.

    python tests/benchmarks/bench_commands.py [--rounds N]

`--help` and `--plan` are to answer within 1 s, a second run with nothing to do within 6 s. The study behind the
second run is a small one, trained here first in a directory of its own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = Path(__file__).parents[2] / "studies" / "branch_count.py"
SMALL = ("--k", "1", "2", "--seeds", "2", "--epochs", "1", "--ema-decay", "0")


def run(*options: str) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, str(STUDY), *options], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        small = (*SMALL, "--runs", directory)
        run(*small)
        commands = {"--help": ("--help",), "--plan": ("--plan",), "second run": small}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, options in commands.items():
                times[name].append(run(*options))
    print(f"{'command':<12} {'median s':>9} {'min s':>7} {'max s':>7}   of {rounds}")
    for name, values in times.items():
        print(f"{name:<12} {statistics.median(values):>9.2f} {min(values):>7.2f} {max(values):>7.2f}")


if __name__ == "__main__":
    main()
