"""The view of training cost: time and memory of a step as k grows, per path (branches, folded, timm)."""

from collections.abc import Callable, Iterator, Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING, Column, Table, number_text
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.growth import GrowthLine, GrowthPanel, growth_figure
from mobileone_core.reporting.measured import view
from mobileone_core.reporting.measured.result import ALIKE, MeasuredEntry, MeasuredResult
from mobileone_core.study.factor import level_text

K = "step.k"
MIB = 2**20
SAVED, PEAK, TIME = "memory/saved_bytes", "memory/step_bytes", "time/step"
BRANCHES = "branches"  # the path that others are compared with


def k_of(item: MeasuredEntry) -> int:
    """Return the number of branches per block."""
    return int(getattr(item.entry.cell, "k"))  # noqa: B009


def paths_of(result: MeasuredResult) -> dict[str, list[MeasuredEntry]]:
    """Return the entries, k rising, per combination of all factors but k, in the order of their levels."""
    others = [factor.name for factor in result.plan.study.factors if factor.set_fields != {K}]
    series: dict[str, list[MeasuredEntry]] = {}
    for item in result.entries:
        texts = [level_text(item.entry.factors[name]) for name in others]
        series.setdefault(", ".join(texts) or "a step", []).append(item)
    return {name: sorted(entries, key=k_of) for name, entries in series.items()}


class TrainingView(view.View):
    """Cost against k."""

    def setting(self, result: MeasuredResult) -> str:
        """Return where and with how many threads it was measured."""
        threads = result.plan.study.base.threads
        return f"{view.location(result) or 'nothing yet'}, {threads} thread{'' if threads == 1 else 's'}"

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """State the growth of every path, then its ratios to the branches, then to timm's network."""
        return [
            sentence
            for state in (_growth, _against_branches, _against_timm)
            for name, entries in paths_of(result).items()
            for sentence in state(result, name, [item for item in entries if not item.unmeasured])
        ]

    def table(self, result: MeasuredResult) -> Table:
        """Return one row per entry: time and memory, with ratios to the reference and to the branches."""
        return view.entries_table(result, _row)

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean."""
        return [
            "*A step* is forward, cross entropy, backward and SGD's update on one batch of random images "
            f"({result.plan.study.base.size_text}), without data loading. All paths start from the same weights, "
            "timm's network too; one whose logits are not those of the branches is not timed.",
            "*Time*: the median over rounds with its order-statistic 95 % interval. *Ratios* are taken round by "
            f"round, to what was timed in the same round. {view.JUDGED}",
            "*Kept for the backward*: the storages that autograd holds between forward and backward, each counted "
            "once, without parameters. *Peak*: the most that torch had allocated at once within a step, above the "
            "level before it. Parameters, their gradients and the optimizer's state grow with k on every path.",
            "*Figure*: the dashed line is the reference; next to a path stands by which factor its largest k exceeds "
            "its smallest.",
        ]

    def figure(self, result: MeasuredResult) -> style.Figure:
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
    for name, entries in paths_of(result).items():
        if measured := [item for item in entries if not item.unmeasured]:
            values = [(k_of(item), cost(item) or Estimate(0.0, 0.0, 0.0)) for item in measured]
            lines.append(GrowthLine(name, values, measured[-1].metric(growth)))
    references = [value.value for item in result.measured if item.is_reference and (value := cost(item))]
    return GrowthPanel(label, lines, references)


def _row(result: MeasuredResult, item: MeasuredEntry) -> dict[Column, str]:
    paths = paths_of(result)
    names = [f"{name}, k = {k_of(each)}" for name, entries in paths.items() for each in entries if each.is_reference]
    reference = names[0] if len(names) == 1 else "its reference"
    to_reference = "reference" if item.is_reference else view.estimate_text(item.ratio, ".2f")
    ratio, to_branches = item.estimate(f"{TIME}_over_branches"), "to the branches, same k"
    verdict = "not measured" if item.unmeasured else result.judge(item, ratio)
    bytes_used = (item.metric(SAVED), item.metric(PEAK))
    saved, peak = (MISSING if value is None else f"{value / MIB:,.1f}" for value in bytes_used)
    return {
        Column("parameters"): number_text(item.metric("params"), ",.0f"),
        Column("a step, ms", "[95 % over rounds]"): view.estimate_text(item.estimate(TIME, "_ms")),
        Column("time ratio", f"to {reference} [95 %]"): to_reference,
        Column("time ratio", f"{to_branches} [95 %]"): view.estimate_text(ratio, ".2f"),
        Column("verdict", "against the branches, same k", is_text=True): verdict,
        Column("kept for the backward", "MiB"): saved,
        Column("kept, ratio", f"to {reference}"): number_text(item.metric("memory/saved_ratio"), ".2f"),
        Column("kept, ratio", to_branches): number_text(item.metric("memory/saved_over_branches"), ".2f"),
        Column("peak of a step", "MiB"): peak,
        Column("n", "rounds"): MISSING if item.unmeasured else str(result.rounds),
    }


def _growth(result: MeasuredResult, name: str, measured: Sequence[MeasuredEntry]) -> Iterator[str]:
    """State how the cost of a path grows from its smallest k to its largest."""
    if len(measured) < 2:
        return
    first, last = measured[0], measured[-1]
    growth, saved = last.estimate(f"{TIME}_growth"), last.metric("memory/saved_growth")
    if growth is not None and saved is not None:
        times = f"takes {view.estimate_text(growth, '.2f')} times as long"
        if result.judge(last, growth) == ALIKE:
            times = f"shows no growth in {result.rounds} rounds ({view.estimate_text(growth, '.2f')} times)"
        span = f"from k = {k_of(first)} to {k_of(last)}"
        yield f"{name}: {span} a step {times} and keeps {saved:.2f} times as much for the backward pass."


def _against_branches(result: MeasuredResult, name: str, measured: Sequence[MeasuredEntry]) -> Iterator[str]:
    """State where a path is faster than the branches with the same k, and where not."""
    names: dict[str, list[str]] = {}
    saved = []
    for item in measured:
        ratio, memory = item.estimate(f"{TIME}_over_branches"), item.metric("memory/saved_over_branches")
        if ratio is not None and memory is not None:
            names.setdefault(result.judge(item, ratio), []).append(f"k = {k_of(item)} ({ratio.value:.2f} times)")
            saved.append(memory)
    if names:
        verdicts = "; ".join(view.by_verdict(result, names, " at "))
        share = " to ".join(dict.fromkeys((f"{min(saved):.2f}", f"{max(saved):.2f}")))
        yield f"{name} against {BRANCHES} with the same k: {verdicts}; it keeps {share} of what they keep."


def _against_timm(_: MeasuredResult, name: str, measured: Sequence[MeasuredEntry]) -> Iterator[str]:
    """State what a path takes of timm's network, which computes every branch as our branches do."""
    for item in measured:
        ratio, memory = item.estimate(f"{TIME}_over_timm"), item.metric("memory/saved_over_timm")
        if ratio is not None and memory is not None and name != BRANCHES:
            yield (
                f"{name} at k = {k_of(item)} takes {view.estimate_text(ratio, '.2f')} times what timm's network "
                f"takes and keeps {memory:.2f} of what it keeps."
            )
