"""The view of training cost: time and memory of a step as k grows, per path (branches, folded, timm)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.figures.growth import GrowthLine, GrowthPanel, growth_figure
from mobileone_core.reporting.measured import formats
from mobileone_core.reporting.measured.result import ALIKE, MeasuredEntry, MeasuredResult
from mobileone_core.reporting.measured.view import JUDGED, View, by_verdict, factor_columns, location
from mobileone_core.study.factor import level_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

K = "step.k"
MIB = 2**20
SAVED, PEAK, TIME = "memory/saved_bytes", "memory/step_bytes", "time/step"
BRANCHES = "branches"  # the path that others are compared with


@dataclass(frozen=True)
class PathSeries:
    """The entries that differ in k alone, k rising."""

    name: str
    entries: tuple[MeasuredEntry, ...]

    @property
    def measured(self) -> tuple[MeasuredEntry, ...]:
        """The entries with times."""
        return tuple(item for item in self.entries if not item.unmeasured)


def k_of(item: MeasuredEntry) -> int:
    """Return the number of branches per block."""
    return int(getattr(item.entry.cell, "k"))  # noqa: B009


def paths_of(result: MeasuredResult) -> list[PathSeries]:
    """Return one series per combination of all factors but k, in the order of their levels."""
    others = [factor.name for factor in result.plan.study.factors if factor.set_fields != {K}]
    series: dict[str, list[MeasuredEntry]] = {}
    for item in result.entries:
        texts = [level_text(item.entry.factors[name]) for name in others]
        series.setdefault(", ".join(texts) or "a step", []).append(item)
    return [PathSeries(name, tuple(sorted(entries, key=k_of))) for name, entries in series.items()]


class TrainingView(View):
    """Cost against k."""

    def setting(self, result: MeasuredResult) -> str:
        """Return where and with how many threads it was measured."""
        threads = result.plan.study.base.threads
        return f"{location(result) or 'nothing yet'}, {threads} thread{'' if threads == 1 else 's'}"

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """State the growth of every path, then its ratios to the branches, then to timm's network."""
        paths = paths_of(result)
        return [
            *(sentence for path in paths for sentence in _growth(result, path)),
            *(sentence for path in paths for sentence in _against_branches(result, path)),
            *(sentence for path in paths for sentence in _against_timm(path)),
        ]

    def table(self, result: MeasuredResult) -> Table:
        """Return one row per entry: time and memory, with ratios to the reference and to the branches."""
        reference = _reference(result)
        columns = (
            *factor_columns(result),
            Column("parameters"),
            Column("a step, ms", "[95 % over rounds]"),
            Column("time ratio", f"to {reference} [95 %]"),
            Column("time ratio", "to the branches, same k [95 %]"),
            Column("verdict", "against the branches, same k", is_text=True),
            Column("kept for the backward", "MiB"),
            Column("kept, ratio", f"to {reference}"),
            Column("kept, ratio", "to the branches, same k"),
            Column("peak of a step", "MiB"),
            Column("n", "rounds"),
        )
        rows = tuple(_row(result, item) for item in result.entries)
        return Table(columns, rows, labels=len(result.plan.study.factors))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean."""
        return [
            "*A step* is forward, cross entropy, backward and SGD's update on one batch of random images "
            f"({result.plan.study.base.size_text}), without data loading. All paths start from the same weights, "
            "timm's network too; one whose logits are not those of the branches is not timed.",
            "*Time*: the median over rounds with its order-statistic 95 % interval. *Ratios* are taken round by "
            f"round, to what was timed in the same round. {JUDGED}",
            "*Kept for the backward*: the storages that autograd holds between forward and backward, each counted "
            "once, without parameters. *Peak*: the most that torch had allocated at once within a step, above the "
            "level before it. Parameters, their gradients and the optimizer's state grow with k on every path.",
            "*Figure*: the dashed line is the reference; next to a path stands by which factor its largest k exceeds "
            "its smallest.",
        ]

    def figure(self, result: MeasuredResult) -> "Figure":
        """Draw time and saved memory against k."""
        study = result.plan.study
        return growth_figure(
            study.question,
            f"Measured: {self.setting(result)}",
            f"{study.base.size_text}; medians, 95 % over {result.rounds} rounds",
            sorted(set(map(k_of, result.entries))),
            [
                _panel(result, "time of a step, ms", f"{TIME}_growth", lambda item: item.estimate(TIME, "_ms")),
                _panel(result, "kept for the backward pass, MiB", "memory/saved_growth", _saved),
            ],
        )


def _saved(item: MeasuredEntry) -> Estimate:
    """Saved memory in MiB; it is counted and has no interval."""
    value = (item.metric(SAVED) or 0.0) / MIB
    return Estimate(value, value, value)


def _panel(
    result: MeasuredResult, label: str, growth: str, cost: Callable[[MeasuredEntry], Estimate | None]
) -> GrowthPanel:
    lines = []
    for path in paths_of(result):
        if path.measured:
            values = [(k_of(item), cost(item) or Estimate(0.0, 0.0, 0.0)) for item in path.measured]
            lines.append(GrowthLine(path.name, values, path.measured[-1].metric(growth)))
    references = [value.value for item in result.measured if item.is_reference and (value := cost(item))]
    return GrowthPanel(label, lines, references)


def _reference(result: MeasuredResult) -> str:
    """branches, k = 1."""
    references = [(path.name, item) for path in paths_of(result) for item in path.entries if item.is_reference]
    return f"{references[0][0]}, k = {k_of(references[0][1])}" if len(references) == 1 else "its reference"


def _row(result: MeasuredResult, item: MeasuredEntry) -> tuple[str, ...]:
    ratio = item.estimate(f"{TIME}_over_branches")
    return (
        *item.level_texts,
        formats.count(item.metric("params")),
        formats.estimate(item.estimate(TIME, "_ms")),
        "reference" if item.is_reference else formats.estimate(item.ratio, ".2f"),
        formats.estimate(ratio, ".2f"),
        "not measured" if item.unmeasured else result.judge(item, ratio),
        _mib_text(item, SAVED),
        formats.number(item.metric("memory/saved_ratio"), ".2f"),
        formats.number(item.metric("memory/saved_over_branches"), ".2f"),
        _mib_text(item, PEAK),
        result.rounds_text(item),
    )


def _mib_text(item: MeasuredEntry, name: str) -> str:
    value = item.metric(name)
    return MISSING if value is None else f"{value / MIB:,.1f}"


def _growth(result: MeasuredResult, path: PathSeries) -> Iterator[str]:
    """State how the cost of a path grows from its smallest k to its largest."""
    if len(path.measured) < 2:
        return
    first, last = path.measured[0], path.measured[-1]
    growth, saved = last.estimate(f"{TIME}_growth"), last.metric("memory/saved_growth")
    if growth is None or saved is None:
        return
    times = f"takes {formats.estimate(growth, '.2f')} times as long"
    if result.judge(last, growth) == ALIKE:
        times = f"shows no growth in {result.rounds} rounds ({formats.estimate(growth, '.2f')} times)"
    span = f"from k = {k_of(first)} to {k_of(last)}"
    yield f"{path.name}: {span} a step {times} and keeps {saved:.2f} times as much for the backward pass."


def _against_branches(result: MeasuredResult, path: PathSeries) -> Iterator[str]:
    """State where a path is faster than the branches with the same k, and where not."""
    names: dict[str, list[str]] = {}
    saved = []
    for item in path.measured:
        ratio, memory = item.estimate(f"{TIME}_over_branches"), item.metric("memory/saved_over_branches")
        if ratio is None or memory is None:
            continue
        names.setdefault(result.judge(item, ratio), []).append(f"k = {k_of(item)} ({ratio.value:.2f} times)")
        saved.append(memory)
    if names:
        verdicts = "; ".join(by_verdict(result, names, " at "))
        share = " to ".join(dict.fromkeys((f"{min(saved):.2f}", f"{max(saved):.2f}")))
        yield f"{path.name} against {BRANCHES} with the same k: {verdicts}; it keeps {share} of what they keep."


def _against_timm(path: PathSeries) -> Iterator[str]:
    """State what a path takes of timm's network, which computes every branch as our branches do."""
    for item in path.measured:
        ratio, memory = item.estimate(f"{TIME}_over_timm"), item.metric("memory/saved_over_timm")
        if ratio is not None and memory is not None and path.name != BRANCHES:
            yield (
                f"{path.name} at k = {k_of(item)} takes {formats.estimate(ratio, '.2f')} times what timm's network "
                f"takes and keeps {memory:.2f} of what it keeps."
            )
