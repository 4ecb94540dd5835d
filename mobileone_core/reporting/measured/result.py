"""A measured plan joined with its rows: the data behind the page, tables and figure of a measured study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.benchmark.spec import Entry, StepCell
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.reporting.environment import is_within_tolerance, names_device
from mobileone_core.reporting.published import PublishedValue, published_values
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import CellRow, DeviceRow, EvaluationRow, StudyRecord

MEDIAN = "latency/median_ms"
RUNTIME = "runtime"
ALIKE, NOT_JUDGED = "no difference shown", "not judged: control"
RANK5 = "_rank5"  # both forms of an activation are one row of table 2


@dataclass(frozen=True)
class MeasuredEntry:
    """An entry of the comparison and its row, None if missing. Times need a recorded device and processor."""

    entry: Entry[LatencyCell] | Entry[StepCell]
    row: CellRow | None

    @property
    def is_reference(self) -> bool:
        """Whether ratios of other entries refer to this one."""
        return self.entry.reference == self.entry.label

    @property
    def unmeasured(self) -> str:
        """Why there are no times; empty if there are."""
        if self.row is None:
            return "not in the record"
        if self.row.environment.get("unmeasured"):
            return " ".join(self.row.environment["unmeasured"].split())
        if not names_device(self.row):
            return "device or processor were not recorded: a time without them is not printed"
        return "" if f"{self.entry.cell.time_metric}_ms" in self.row.metrics else "no time is recorded"

    def metric(self, name: str) -> float | None:
        """Return a metric of the row; None if missing, and for times without a device."""
        if self.row is None or (name not in ("params", "macs") and self.unmeasured):
            return None
        return self.row.metrics.get(name)

    def estimate(self, name: str, unit: str = "") -> Estimate | None:
        """Return a metric with its interval, which ends at the value itself if none is recorded."""
        value, low, high = (self.metric(f"{name}{end}{unit}") for end in ("", "_low", "_high"))
        if value is None:
            return None
        return Estimate(value, value if low is None else low, value if high is None else high)

    @property
    def ratio(self) -> Estimate | None:
        """The time over that of the reference, the median of the ratio round by round."""
        return None if self.is_reference else self.estimate(self.entry.cell.ratio_metric)

    @property
    def control(self) -> float | None:
        """The A/A ratio: the time of a second copy of the reference over the first."""
        return self.metric(self.entry.cell.control_metric)

    @property
    def network(self) -> str:
        """The name of its network."""
        named = getattr(self.entry.cell.parts.get("network"), "model", self.entry.label)
        return str(self.entry.factors.get("model", named))

    @property
    def runtime(self) -> str:
        """The name of the runtime that executes it."""
        return self.entry.cell.runtime_name


@dataclass(frozen=True)
class MeasuredResult:
    """entries holds every entry of the plan in its order; problems are errors in the record."""

    plan: MeasuredPlan
    entries: tuple[MeasuredEntry, ...]
    problems: tuple[str, ...]
    evaluations: Sequence[EvaluationRow] = ()
    devices: Sequence[DeviceRow] = ()

    @property
    def measured(self) -> tuple[MeasuredEntry, ...]:
        """The entries with times."""
        return tuple(item for item in self.entries if not item.unmeasured)

    @property
    def rounds(self) -> int:
        """Number of rounds, the replicates of a measured study."""
        return self.plan.spec.protocol.rounds

    @property
    def runtimes(self) -> tuple[str, ...]:
        """All runtimes in the order of the plan."""
        return tuple(dict.fromkeys(item.runtime for item in self.entries))

    def name_of(self, item: MeasuredEntry) -> str:
        """Return an entry's levels as text, without the runtime unless it is the only factor."""
        levels = [level for name, level in item.entry.factors.items() if name != RUNTIME]
        return ", ".join(map(level_text, levels or item.entry.factors.values()))

    def reference_of(self, item: MeasuredEntry) -> MeasuredEntry | None:
        """Return the entry that the ratio of this one refers to."""
        return next((other for other in self.entries if other.entry.label == item.entry.reference), None)

    def verdict(self, item: MeasuredEntry) -> str:
        """Return judge's verdict on an entry's ratio to its reference, or "reference" for a reference itself."""
        return "reference" if item.is_reference else self.judge(item, item.ratio)

    def judge(self, item: MeasuredEntry, ratio: Estimate | None) -> str:
        """Return the verdict on a ratio of an entry's time: slower, faster, ALIKE or within the control's 3 %.

        NOT_JUDGED if the A/A control of the entry's reference is missing or exceeds 3 %; "-" without a ratio.
        """
        if ratio is None:
            return "-"
        reference = self.reference_of(item)
        control = reference.control if reference else None
        if control is None or not is_within_tolerance(control):
            return NOT_JUDGED
        if ratio.low <= 1 <= ratio.high:
            return ALIKE
        if is_within_tolerance(ratio.value):
            return "within the control's 3 %"
        return "slower" if ratio.value > 1 else "faster"

    @property
    def published(self) -> Mapping[str, PublishedValue]:
        """Latencies of table 2 by level, if the study shows that table."""
        name = self.plan.study.published
        values = published_values(name) if name == "table2_activation_latency_ms" else ()
        return {value.level: value for value in values}

    def published_value(self, item: MeasuredEntry) -> PublishedValue | None:
        """Return the published latency of an entry's network."""
        levels = (str(level).removesuffix(RANK5) for level in item.entry.factors.values())
        published = self.published
        return next((published[level] for level in levels if level in published), None)

    def published_ratio(self, item: MeasuredEntry) -> float | None:
        """Return the published latency over that of the entry's reference."""
        reference = self.reference_of(item)
        value, base = self.published_value(item), self.published_value(reference) if reference else None
        return value.value / base.value if value and base else None


def runs_by_label(plan: MeasuredPlan, record: StudyRecord) -> dict[str, list[CellRow]]:
    """Return the rows of the plan's comparison by the label of their entry."""
    rows: dict[str, list[CellRow]] = {entry.label: [] for entry in plan.spec.entries}
    for row in record.comparison:
        if row.key == plan.comparison.key and (label := level_label(row.factors)) in rows:
            rows[label].append(row)
    return rows


def analyse_measured(plan: MeasuredPlan, record: StudyRecord) -> MeasuredResult:
    """Join a plan with the rows of its comparison; an entry with two runs is a problem and counts as missing."""
    rows = runs_by_label(plan, record)
    problems = [
        f"comparison {plan.comparison.key} has {len(runs)} runs of {label}, where one is allowed"
        for label, runs in rows.items()
        if len(runs) > 1
    ]
    single = {label: runs[0] for label, runs in rows.items() if len(runs) == 1}
    entries = [MeasuredEntry(entry, single.get(entry.label)) for entry in plan.spec.entries]
    further = [text for text in problems if text not in record.problems]
    return MeasuredResult(plan, tuple(entries), (*record.problems, *further), record.evaluations, record.devices)
