"""Small measured studies with rows written by hand; the helpers next to this file can be imported by name."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.latency.cell import Chain, LatencyCell
from mobileone_core.study.declaration import Factor
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy
from mobileone_core.study.rows import CellRow, StudyRecord

DEVICE = {"device": "cpu", "processor": "Any CPU", "threads": "1", "git": "0123abc"}
ACTIVATIONS = ("relu", "gelu", "silu", "hardswish", "se_relu", "dynamic_relu_a", "dynamic_relu_a_rank5")
RATIOS = dict(zip(ACTIVATIONS, (1.0, 1.06, 1.2, 1.001, 1.13, 1.35, 5.6), strict=True))
STUDY = MeasuredStudy(
    name="activation_latency",
    question="What does the activation cost in latency?",
    factors=(
        Factor("activation", "network.activation", levels=ACTIVATIONS, baseline="relu"),
        Factor("runtime", "runtime.name", levels=("onnxruntime", "torch"), baseline="onnxruntime"),
    ),
    reference="table 2",
    published="table2_activation_latency_ms",
    base=LatencyCell(Chain()),
    protocol=Protocol(rounds=20),
    against=("activation",),
)


def metrics_of(median, ratio, is_reference):
    parts = {"median": 1.0, "median_low": 0.99, "median_high": 1.02, "min": 0.95, "p90": 1.1, "mean": 1.01}
    metrics = {f"latency/{name}_ms": median * part for name, part in parts.items()}
    metrics |= {"params": 277_000.0, "macs": 868_000_000.0, "host/load": 0.12}
    metrics |= {f"latency/ratio{end}": ratio + by for end, by in (("", 0.0), ("_low", -0.01), ("_high", 0.02))}
    return {**metrics, **({"control/latency_ratio": 1.004} if is_reference else {})}


def record_of(plan, ratios, base=4.0):
    """Rows of every entry; ratio by the first factor's level; twice as long in torch."""
    rows = []
    for number, entry in enumerate(plan.spec.entries):
        level, runtime = next(iter(entry.factors.values())), entry.cell.runtime.name
        median = base * ratios[level] * (2 if runtime == "torch" else 1)
        metrics = metrics_of(median, ratios[level], entry.reference == entry.label)
        tags = {**DEVICE, "runtime": runtime, "host": "somebodys-laptop", "pid": "4711"}
        rows.append(CellRow(plan.comparison.key, 0, dict(entry.factors), f"run{number}", metrics, tags))
    return StudyRecord((), (), tuple(rows))


@pytest.fixture(scope="session")
def activations():
    return MeasuredPlan(STUDY, default=True)


@pytest.fixture(scope="session")
def timed(activations):
    return record_of(activations, RATIOS)


@pytest.fixture(scope="session")
def change():
    """A record with the row of one entry changed; None removes it."""

    def make(record, label, plan, **changes):
        index = [entry.label for entry in plan.spec.entries].index(label)
        rows = list(record.comparison)
        if changes:
            rows[index] = replace(rows[index], **changes)
        else:
            del rows[index]
        return replace(record, comparison=tuple(rows))

    return make
