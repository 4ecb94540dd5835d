"""A training-cost study with rows written by hand: times and memory that look like S0's."""

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import StepCell
from mobileone_core.study.declaration import Factor
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy
from mobileone_core.study.rows import CellRow, StudyRecord

MIB = 2**20
DEVICE = {"device": "cpu", "processor": "Any CPU", "threads": "2", "git": "0123abc", "runtime": "torch"}
TIMES = {
    "branches": {1: 400.0, 2: 640.0, 4: 1000.0, 8: 1700.0},
    "folded": {1: 480.0, 2: 500.0, 4: 500.0, 8: 544.0},
    "timm": {4: 1004.0},
}
SAVED = {
    "branches": {1: 300.0, 2: 400.0, 4: 600.0, 8: 990.0},
    "folded": {1: 132.0, 2: 140.0, 4: 156.0, 8: 189.0},
    "timm": {4: 600.0},
}
STUDY = MeasuredStudy(
    name="training_cost",
    question="What does a training step cost as k grows?",
    factors=(
        Factor("path", "step.path", levels=("branches", "folded", "timm"), baseline="branches"),
        Factor("k", "step.k", levels=(1, 2, 4, 8), baseline=1),
    ),
    reference="section 3.3",
    base=StepCell(),
    protocol=Protocol(rounds=12, burst=1, warmup=1, untimed=0),
    view="training",
)


def step_plan(study=STUDY):
    return MeasuredPlan(study, default=True)


def step_record(plan, times=TIMES, control=1.004):
    """Rows of every entry; ratios with 1 % on either side."""
    rows = (_row(plan, number, entry, times, control) for number, entry in enumerate(plan.spec.entries))
    return StudyRecord((), (), tuple(rows))


def _row(plan, number, entry, times, control):
    path, k = entry.cell.path, entry.cell.k
    time, saved = times[path][k], SAVED[path][k]
    metrics = {"params": 2e6 + 1e6 * k, "host/load": 0.1}
    metrics |= {"memory/saved_bytes": saved * MIB, "memory/step_bytes": 1.25 * saved * MIB}
    metrics |= {f"time/step{end}_ms": time * by for end, by in (("", 1), ("_low", 0.99), ("_high", 1.02))}
    others = {"ratio": ("branches", 1), "growth": (path, min(times[path]))}
    others |= {f"over_{other}": (other, k) for other in ("branches", "timm") if other != path and k in times[other]}
    for name, (other, base) in others.items():
        ratio = time / times[other][base]
        metrics |= {f"time/step_{name}{end}": ratio * by for end, by in (("", 1), ("_low", 0.99), ("_high", 1.01))}
        metrics[f"memory/saved_{name}"] = saved / SAVED[other][base]
    if entry.reference == entry.label:
        metrics["control/step_ratio"] = control
    return CellRow(plan.comparison.key, 0, dict(entry.factors), f"run{number}", metrics, DEVICE)
