"""A measured plan and its rows, put together once for every page, table and figure. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE
from mobileone_core.benchmark.samples import Estimate
from mobileone_core.benchmark.spec import Entry
from mobileone_core.benchmark.step_cell import StepCell
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.reporting.trained.forms import has_place
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import CellRow, DeviceRow, EvaluationRow, StudyRecord

MEDIAN, LOAD = "latency/median_ms", "host/load"
RUNTIME = "runtime"
ALIKE = "no difference shown"
JUDGED = ("slower", "faster", ALIKE, "within the control's 3 %")


@dataclass(frozen=True)
class MeasuredArm:
    """An arm and its row, None where it is missing. Times are told only where device and processor are recorded."""

    arm: Entry[LatencyCell] | Entry[StepCell]
    row: CellRow | None

    @property
    def is_reference(self) -> bool:
        return self.arm.reference == self.arm.label

    @property
    def unmeasured(self) -> str:
        """Why there are no times; empty where there are."""
        if self.row is None:
            return "not in the record"
        if self.row.environment.get("unmeasured"):
            return " ".join(self.row.environment["unmeasured"].split())
        if not has_place(self.row):
            return "device or processor were not recorded: a time without them is not printed"
        return "" if f"{self.arm.cell.time_metric}_ms" in self.row.metrics else "no time is recorded"

    def metric(self, name: str) -> float | None:
        """A count, or a time where it may be told."""
        if self.row is None or (name not in ("params", "macs") and self.unmeasured):
            return None
        return self.row.metrics.get(name)

    def estimate(self, name: str, unit: str = "") -> Estimate | None:
        """A value with its interval; the value itself where no interval is recorded."""
        value, low, high = (self.metric(f"{name}{end}{unit}") for end in ("", "_low", "_high"))
        if value is None:
            return None
        return Estimate(value, value if low is None else low, value if high is None else high)

    @property
    def ratio(self) -> Estimate | None:
        """Its median time over that of its reference, round by round."""
        return None if self.is_reference else self.estimate(self.arm.cell.ratio_metric)

    @property
    def control(self) -> float | None:
        """The ratio to its own twin, where it has one."""
        return self.metric(self.arm.cell.control_metric)


@dataclass(frozen=True)
class MeasuredResult:
    """arms holds every arm of the plan in its order."""

    plan: MeasuredPlan
    arms: tuple[MeasuredArm, ...]
    problems: tuple[str, ...]
    evaluations: Sequence[EvaluationRow] = ()
    devices: Sequence[DeviceRow] = ()

    @property
    def measured(self) -> tuple[MeasuredArm, ...]:
        return tuple(item for item in self.arms if not item.unmeasured)

    def runtime_of(self, item: MeasuredArm) -> str:
        return item.arm.cell.runtime_name

    @property
    def runtimes(self) -> tuple[str, ...]:
        """As they come in the plan."""
        return tuple(dict.fromkeys(map(self.runtime_of, self.arms)))

    def name_of(self, item: MeasuredArm) -> str:
        """Its levels without the runtime's."""
        levels = {name: level for name, level in item.arm.factors.items() if name != RUNTIME}
        texts = [level_text(level) for level in (levels or item.arm.factors).values()]
        return ", ".join(texts)

    def control(self, item: MeasuredArm) -> float | None:
        """The A/A ratio of the arm's reference."""
        found = [other for other in self.arms if other.arm.label == item.arm.reference]
        return found[0].control if found else None

    def verdict(self, item: MeasuredArm) -> str:
        """Slower, faster or neither, by the ratio's interval and the control's tolerance."""
        if item.is_reference:
            return "reference"
        return judged(item.ratio, self.control(item))

    @property
    def controls(self) -> Mapping[str, float | None]:
        """The A/A ratio of every measured reference by its label."""
        return {item.arm.label: item.control for item in self.measured if item.is_reference}


def judged(ratio: Estimate | None, control: float | None) -> str:
    """What a ratio of times says, where the reference's own twin is not further off than it may be."""
    if ratio is None:
        return "-"
    if control is None or not is_near(control):
        return "not judged: control"
    if ratio.low <= 1 <= ratio.high:
        return ALIKE
    if is_near(ratio.value):
        return "within the control's 3 %"
    return "slower" if ratio.value > 1 else "faster"


def is_near(ratio: float) -> bool:
    """Whether a ratio is 1 but for what the control may differ."""
    return abs(ratio - 1) <= CONTROL_TOLERANCE


def analyse_measured(plan: MeasuredPlan, record: StudyRecord) -> MeasuredResult:
    """Rows of other plans are left aside; an arm with two runs is a problem and shown as missing."""
    found: dict[str, list[CellRow]] = {entry.label: [] for entry in plan.spec.entries}
    for row in record.comparison:
        label = level_label(row.factors)
        if row.key == plan.comparison.key and label in found:
            found[label].append(row)
    problems = [
        f"comparison {plan.comparison.key} has {len(rows)} runs of {label}, where one is allowed"
        for label, rows in found.items()
        if len(rows) > 1
    ]
    arms = [
        MeasuredArm(entry, rows[0] if len(rows := found[entry.label]) == 1 else None) for entry in plan.spec.entries
    ]
    known = [text for text in problems if text not in record.problems]
    return MeasuredResult(plan, tuple(arms), (*record.problems, *known), record.evaluations, record.devices)
