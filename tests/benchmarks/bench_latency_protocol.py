"""How much does the same network, timed twice, differ from itself? One after the other, and interleaved round by round.

    python tests/benchmarks/bench_latency_protocol.py [repeats]

The deployed S0 in ONNX Runtime, one thread, 20 rounds of 4, two sessions: the ratio of their medians is 1 but for what
disturbs the machine.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mobileone_core.benchmark.interleave import TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.latency.networks import build_forms, build_images
from mobileone_core.latency.runtimes import SessionSource, prepare


def main(repeats: int = 10) -> None:
    cell, protocol = LatencyCell(), Protocol()
    with TemporaryDirectory() as folder:
        source = SessionSource(build_forms(cell)[1], build_images(cell), cell.runtime, Path(folder))
        opener = prepare(source)
        calls = {name: TimedCall(opener().call) for name in ("first", "second")}
        by_order: dict[str, list[float]] = {"one after the other": [], "interleaved": []}
        for _ in range(repeats):
            first, second = (interleave({name: call}, protocol, lambda _: None) for name, call in calls.items())
            by_order["one after the other"].append(second.median("second").value / first.median("first").value)
            both = interleave(calls, protocol, lambda _: None)
            by_order["interleaved"].append(both.ratio("second", "first").value)
    print(f"A/A ratio of {repeats} repeats, {protocol.rounds} rounds of {protocol.burst}: distance from 1")
    for name, ratios in by_order.items():
        distance = 100 * np.abs(np.array(ratios) - 1)
        print(f"{name:>20}: median {np.median(distance):.1f} %, largest {distance.max():.1f} %")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
