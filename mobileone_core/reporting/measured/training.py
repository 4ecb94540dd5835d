"""What a training step costs as k grows: time and memory of every path, in a table and in sentences. No torch here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.reporting.measured.result import ALIKE, MeasuredArm, MeasuredResult, judged
from mobileone_core.reporting.measured.words import control_words, count, interval, number, place
from mobileone_core.reporting.trained.comparison import MIB
from mobileone_core.reporting.trained.effects import joined
from mobileone_core.reporting.trained.words import MISSING, Table
from mobileone_core.study.factor import level_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

K = "step.k"
SAVED, PEAK, TIME = "memory/saved_bytes", "memory/step_bytes", "time/step"
BRANCHES = "branches"  # the path that others are held against


@dataclass(frozen=True)
class Line:
    """The arms that differ in k alone, k rising."""

    name: str
    arms: tuple[MeasuredArm, ...]

    @property
    def measured(self) -> tuple[MeasuredArm, ...]:
        return tuple(item for item in self.arms if not item.unmeasured)


def k_of(item: MeasuredArm) -> int:
    """Branches of a block."""
    return int(getattr(item.arm.cell, "k"))  # noqa: B009


def lines_of(result: MeasuredResult) -> list[Line]:
    """One a combination of all levels but k's, in their order."""
    others = [factor.name for factor in result.plan.study.factors if factor.named != {K}]
    found: dict[str, list[MeasuredArm]] = {}
    for item in result.arms:
        texts = [level_text(item.arm.factors[name]) for name in others]
        found.setdefault(", ".join(texts) or "a step", []).append(item)
    return [Line(name, tuple(sorted(arms, key=k_of))) for name, arms in found.items()]


class TrainingView:
    """Cost against k."""

    def sentences(self, result: MeasuredResult) -> Sequence[str]:
        if not result.measured:
            return ["Nothing is measured yet."]
        threads = result.plan.study.base.threads
        told = [f"Measured on {place(result)}, {threads} thread{'' if threads == 1 else 's'}."]
        lines = lines_of(result)
        told += [sentence for line in lines for sentence in _growth(result, line)]
        told += [sentence for line in lines for sentence in _against_branches(result, line)]
        told += [sentence for line in lines for sentence in _against_timm(line)]
        gaps = len(result.arms) - len(result.measured)
        told += [control_words(result), f"Not measured: {gaps} of {len(result.arms)} arms." if gaps else ""]
        return [part for part in told if part]

    def table(self, result: MeasuredResult) -> Table:
        reference = _reference(result)
        columns = (
            *((factor.name, "") for factor in result.plan.study.factors),
            ("parameters", ""),
            ("a step, ms", "[95 % over rounds]"),
            ("time ratio", f"to {reference} [95 %]"),
            ("time ratio", "to the branches, same k [95 %]"),
            ("verdict", "against the branches, same k"),
            ("kept for the backward", "MiB"),
            ("kept, ratio", f"to {reference}"),
            ("kept, ratio", "to the branches, same k"),
            ("peak of a step", "MiB"),
            ("n", "rounds"),
        )
        return Table(columns, tuple(_row(result, item) for item in result.arms))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        return [
            "- *A step* is forward, cross entropy, backward and SGD's update on one batch of random images "
            f"({result.plan.study.base.size_text}), without data loading. All paths start from the same weights, "
            "timm's network too; one whose logits are not those of the branches is not timed.",
            "- *Time*: the median over rounds with its order-statistic 95 % interval. *Ratios* are taken round by "
            "round, to what was timed in the same round. Slower and faster stand where the interval leaves 1 out and "
            "the ratio differs from 1 by more than the 3 % that a network timed against its own twin may differ.",
            "- *Kept for the backward*: what autograd holds between forward and backward, every storage once and "
            "parameters left out. *Peak*: the most that torch's allocations held at once within a step, above what lay "
            "there before. Parameters, their gradients and the optimizer's state grow with k on every path.",
            "- *Figure*: the dashed line is the reference; beside a path stands how many times more its largest k "
            "takes than its smallest.",
        ]

    def sections(self, result: MeasuredResult) -> Sequence[str]:  # noqa: ARG002
        return ()

    def figure(self, result: MeasuredResult) -> "Figure":
        from mobileone_core.reporting.measured.training_figure import training_figure

        return training_figure(result)


def _reference(result: MeasuredResult) -> str:
    """branches, k = 1."""
    arms = [(line.name, item) for line in lines_of(result) for item in line.arms if item.is_reference]
    return f"{arms[0][0]}, k = {k_of(arms[0][1])}" if len(arms) == 1 else "its reference"


def _row(result: MeasuredResult, item: MeasuredArm) -> tuple[str, ...]:
    ratio = item.estimate(f"{TIME}_over_branches")
    return (
        *(level_text(level) for level in item.arm.factors.values()),
        count(item.metric("params")),
        interval(item.estimate(TIME, "_ms")),
        "reference" if item.is_reference else interval(item.ratio, ".2f"),
        interval(ratio, ".2f"),
        "not measured" if item.unmeasured else judged(ratio, result.control(item)),
        _mib(item, SAVED),
        number(item.metric("memory/saved_ratio"), ".2f"),
        number(item.metric("memory/saved_over_branches"), ".2f"),
        _mib(item, PEAK),
        MISSING if item.unmeasured else str(result.plan.spec.protocol.rounds),
    )


def _mib(item: MeasuredArm, name: str) -> str:
    value = item.metric(name)
    return MISSING if value is None else f"{value / MIB:,.1f}"


def _growth(result: MeasuredResult, line: Line) -> Iterator[str]:
    """How a path's cost grows from its smallest k to its largest."""
    if len(line.measured) < 2:
        return
    first, last = line.measured[0], line.measured[-1]
    growth, kept = last.estimate(f"{TIME}_growth"), last.metric("memory/saved_growth")
    if growth is None or kept is None:
        return
    words = f"takes {interval(growth, '.2f')} times as long"
    if judged(growth, result.control(last)) == ALIKE:
        words = f"shows no growth in {result.plan.spec.protocol.rounds} rounds ({interval(growth, '.2f')} times)"
    reach = f"from k = {k_of(first)} to {k_of(last)}"
    yield f"{line.name}: {reach} a step {words} and keeps {kept:.2f} times as much for the backward pass."


def _against_branches(result: MeasuredResult, line: Line) -> Iterator[str]:
    """Where a path is faster than the branches with the same k, and where not."""
    kinds: dict[str, list[str]] = {}
    kept = []
    for item in line.measured:
        ratio, memory = item.estimate(f"{TIME}_over_branches"), item.metric("memory/saved_over_branches")
        if ratio is None or memory is None:
            continue
        kinds.setdefault(judged(ratio, result.control(item)), []).append(f"k = {k_of(item)} ({ratio.value:.2f} times)")
        kept.append(memory)
    if not kinds:
        return
    rounds = result.plan.spec.protocol.rounds
    words = {
        ALIKE: f"no difference that {rounds} rounds show",
        "not judged: control": "not judged, for the control did not hold",
    }
    told = "; ".join(f"{words.get(kind, kind)} at {joined(names)}" for kind, names in kinds.items())
    low, high = min(kept), max(kept)
    share = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    yield f"{line.name} against {BRANCHES} with the same k: {told}; it keeps {share} of what they keep."


def _against_timm(line: Line) -> Iterator[str]:
    """What timm's own network takes beside it; our branches are the same arithmetic."""
    for item in line.measured:
        ratio, memory = item.estimate(f"{TIME}_over_timm"), item.metric("memory/saved_over_timm")
        if ratio is not None and memory is not None and line.name != BRANCHES:
            yield (
                f"{line.name} at k = {k_of(item)} takes {interval(ratio, '.2f')} times what timm's network takes and "
                f"keeps {memory:.2f} of what it keeps."
            )
