"""Evidence on a claim: what the statistics of a study's report say of the contrast that the claim names."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.model.cost import model_cost
from mobileone_core.reporting.environment import tag_values
from mobileone_core.reporting.evaluation import standard_error
from mobileone_core.reporting.ledger.claims import OPPOSITES, PaperClaim
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.correlation import COSTS, Correlation, measured_correlations
from mobileone_core.reporting.measured.result import NOT_JUDGED, MeasuredEntry, MeasuredResult
from mobileone_core.reporting.measured.view import estimate_text, location
from mobileone_core.reporting.trained.result import TrainedResult, trainings_of
from mobileone_core.reporting.trained.tables import curve_ends
from mobileone_core.reporting.untrained import SHORT, UNTRAINED, Finished, allowed, judged
from mobileone_core.study.factor import Level, level_label
from mobileone_core.study.least_squares import Contrast, detectable_effect
from mobileone_core.study.statistics import ALPHA, Comparison, compare

State = Literal["contradicted", "not tested: not trained", "not tested: too few steps", "not resolved", "supported"]
ORDER: tuple[State, ...] = get_args(State)  # of what decides
NEITHER = "not distinguished"


@dataclass(frozen=True)
class Finding:
    """A contrast's verdict, its estimate as text, what difference would have been found, and its distance from none."""

    verdict: str
    text: str
    detectable: str = ""
    distance: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """One report's answer to a claim. data: network and data, such as "tiny on digits"; machine: its processors."""

    report: str
    data: str
    machine: str
    state: State
    text: str


@dataclass(frozen=True)
class SavedResult:
    """A report's name and its analysed record."""

    report: str
    result: Any

    @property
    def study(self) -> str:
        """The name of its study."""
        return str(self.result.plan.study.name)

    @property
    def runs(self) -> set[str]:
        """The runs of its trained cells."""
        return {row.run_id for row in getattr(self.result, "rows", {}).values()}


def evidence(claim: PaperClaim, results: Sequence[SavedResult]) -> list[Evidence]:
    """Return what every report of the claim's study says of it; reports without the claim's levels say nothing.

    A claim on CPUs or GPUs counts their runtimes; phones.py has the phones. A report whose runs are part of another's,
    to which seeds were added, is left out.
    """
    ours = [item for item in results if item.study == claim.study and claim.test in (*TESTS, "gain")]
    ours = [item for item in ours if not any(item.runs < other.runs for other in ours if item.runs)]
    if claim.test == "gain":
        return [*_gains(claim, ours)]
    found = []
    for item in ours:
        for data, machine, findings in TESTS[claim.test](claim, item.result):
            counts = claim.on in ("", "gpu" if data.startswith("cuda") else "cpu")
            if findings and counts and len(findings) == max(1, len(claim.levels)):
                found.append(Evidence(item.report, data, machine, *conclusion(claim, findings)))
    return found


def conclusion(claim: PaperClaim, findings: Sequence[Finding]) -> tuple[State, str]:
    """Return a state for all levels of a claim, contradicted by one and supported by all, with the least clear text."""
    states = [(state_of(item.verdict, claim.expect), item) for item in findings]
    state, deciding = min(states, key=lambda pair: (ORDER.index(pair[0]), pair[1].distance))
    power = f"; {deciding.detectable}" if state == "not resolved" and deciding.detectable else ""
    return state, deciding.text + power


def state_of(verdict: str, expect: str) -> State:
    """Return what a verdict says of a claim that expects another: no verdict but its opposite contradicts it."""
    if verdict in (UNTRAINED, SHORT):
        return "not tested: not trained" if verdict == UNTRAINED else "not tested: too few steps"
    return "supported" if verdict == expect else "contradicted" if verdict == OPPOSITES[expect] else "not resolved"


def against(than: float, value: Estimate) -> str:
    """Return on which side of a value an interval lies."""
    return "above" if value.low > than else "below" if value.high < than else NEITHER


Found = Iterator[tuple[str, str, list[Finding]]]


def _trained(claim: PaperClaim, result: TrainedResult, findings: list[Finding]) -> Found:
    """The findings on a variant and a data set, if the claim is about them."""
    study = result.plan.study
    if claim.counts(study.variant):
        yield f"{study.variant} on {study.data}", tag_values(result.rows.values(), "processor"), findings


def contrast_finding(result: TrainedResult, row: Contrast, name: str = "") -> Finding:
    """Return what a report says of a contrast; name precedes the text."""
    metric = result.metric
    shown = row if row.difference is None else replace(row, difference=round(row.difference, metric.decimals + 2))
    text = metric.difference(shown, with_unit=True) or row.verdict
    detectable = "" if row.detectable is None else f"{metric.amount(row.detectable)} would have been found"
    return Finding(row.verdict, f"{name} {text}".strip(), detectable, abs(row.difference or 0.0))


def values_of(result: TrainedResult, level: str) -> dict[int, float]:
    """Return a level's values by seed."""
    return {cell.seed: result.value(cell.key) for cell, _ in result.finished(level)}


def _level(claim: PaperClaim, result: TrainedResult) -> Found:
    """Levels against the baseline, or against another level, by the study's model."""
    base, names = level_label(claim.base) if claim.base else result.analysis.baseline, result.levels
    if result.metric.name != claim.metric or base not in names:
        return
    rows: Sequence[Comparison] = result.analysis.comparisons
    if claim.base:
        sample = {level: values_of(result, level) for level in names}
        is_higher_better, trainings = result.metric.higher_is_better, trainings_of(result.plan)
        analysis = compare(sample, base, higher_is_better=is_higher_better, trainings=trainings)
        rows = [judged(row, result.finished(row.level, base)) for row in analysis.comparisons]
    wanted = [level_label(level) for level in claim.levels]
    rows = [row for row in rows if row.level in wanted]
    findings = [contrast_finding(result, row, row.level if len(wanted) > 1 else "") for row in rows]
    yield from _trained(claim, result, findings)


def _effect(claim: PaperClaim, result: TrainedResult) -> Found:
    rows = [row for row in result.effects if dict(row.levels) in claim.levels and result.metric.name == claim.metric]
    yield from _trained(claim, result, [contrast_finding(result, row) for row in rows])


def _curve(claim: PaperClaim, result: TrainedResult) -> Found:
    """A training curve's last epoch against the baseline's, or another level's, seed by seed, in percent."""
    base = level_label(claim.base) if claim.base else result.analysis.baseline
    ends = curve_ends(result, claim.metric, base)
    findings = []
    for level in map(level_label, claim.levels):
        mean = ends[level][1] if level in ends else None
        if mean and mean.mean is not None and mean.low is not None and mean.high is not None and mean.sd is not None:
            value = Estimate(mean.mean, mean.low, mean.high)
            size = detectable_effect(mean.sd / mean.n**0.5, mean.n - 1, ALPHA)
            text = f"{value.value:+.1f} % [{value.low:+.1f}, {value.high:+.1f}]"
            verdict = allowed(against(claim.than or 0.0, value), result.finished(level, base))
            findings.append(Finding(verdict, text, f"{size:.1f} % would have been found"))
    yield from _trained(claim, result, findings)


def _gains(claim: PaperClaim, results: Sequence[SavedResult]) -> Iterator[Evidence]:
    """How much more a level brings the smaller of two variants on the same data, by Welch's t interval."""
    for small, large in itertools.permutations(results, 2):
        plans = small.result.plan, large.result.plan
        one, other = (plan.study for plan in plans)
        sizes = [model_cost(plan.base.model).deployed.params for plan in plans]
        is_pair = (one.data, one.recipe) == (other.data, other.recipe) and one.variant != other.variant
        (gains, cells), (others, other_cells) = _gain(claim, small.result), _gain(claim, large.result)
        if not is_pair or sizes[0] >= sizes[1] or min(len(gains), len(others)) < 2:
            continue
        from scipy.stats import ttest_ind  # its import takes longer than most reports

        test = ttest_ind(gains, others, equal_var=False)
        low, high = map(float, test.confidence_interval(1 - ALPHA))
        value = Estimate(sum(gains) / len(gains) - sum(others) / len(others), low, high)
        text = f"{value.value:+.2f} points [{low:+.2f}, {high:+.2f}]"
        finding = Finding(allowed(against(0.0, value), [*cells, *other_cells]), text)
        data = f"{one.variant} and {other.variant} on {one.data}"
        machine = tag_values([*small.result.rows.values(), *large.result.rows.values()], "processor")
        yield Evidence(small.report, data, machine, *conclusion(claim, [finding]))


def _gain(claim: PaperClaim, result: TrainedResult) -> tuple[list[float], list[Finished]]:
    """Gain of the claim's first level that the study has, by seed, and the cells; none for another metric."""
    names = [name for name in map(level_label, claim.levels) if name in result.levels]
    if not names or result.metric.name != claim.metric:
        return [], []
    level, base = (values_of(result, name) for name in (names[0], result.analysis.baseline))
    gains = [level[seed] - base[seed] for seed in sorted(level.keys() & base.keys())]
    return gains, result.finished(names[0], result.analysis.baseline)


def _time(claim: PaperClaim, result: MeasuredResult) -> Found:
    """Times as ratios, to the reference or to another entry, per runtime."""
    for runtime in result.runtimes:
        items = [item for item in result.entries if item.runtime == runtime]
        base = next((item for item in items if _fits(item, claim.base)), None) if claim.base else None
        findings = []
        for level in claim.levels:
            item = next((item for item in items if _fits(item, level)), None)
            ratio = item and (_quotient(item, base) if claim.base else item.ratio)
            if item and ratio:
                verdict = result.judge(item, ratio)
                size = (ratio.high - ratio.low) / 2 / ratio.value
                detail = verdict if verdict == NOT_JUDGED else f"interval ± {100 * size:.1f} %"
                if claim.than is not None and verdict != NOT_JUDGED:
                    verdict = against(claim.than, ratio)
                name = f"{next(iter(level.values()))} " if len(claim.levels) > 1 else ""
                distance = abs(ratio.value - (claim.than or 1.0))
                findings.append(Finding(verdict, f"{name}{estimate_text(ratio)} times", detail, distance))
        yield *_where(result, runtime), findings


def _fits(item: MeasuredEntry, levels: Mapping[str, Level]) -> bool:
    return levels.items() <= item.entry.factors.items()


def _where(result: MeasuredResult, runtime: str) -> tuple[str, str]:
    device, _, processor = location(result).partition(", ")
    return f"{runtime} on {device or 'no device'}", processor


def _quotient(item: MeasuredEntry, base: MeasuredEntry | None) -> Estimate | None:
    """One entry's ratio to the reference over another's, the ends of both intervals combined."""
    one = Estimate(1.0, 1.0, 1.0)
    first, second = (entry and (one if entry.is_reference else entry.ratio) for entry in (item, base))
    if not first or not second:
        return None
    return Estimate(first.value / second.value, first.low / second.high, first.high / second.low)


def _correlation(claim: PaperClaim, result: MeasuredResult) -> Found:
    """Spearman's rank correlation of latency with a cost over table 1's networks, per runtime."""
    for runtime in result.runtimes:
        row = measured_correlations(result, runtime, table9.figure2_names())[list(COSTS).index(claim.metric)]
        yield *_where(result, runtime), [correlation_finding(claim, row)] if row.n else []


def correlation_finding(claim: PaperClaim, row: Correlation) -> Finding:
    """Return what a rank correlation over table 1's networks, or some of them, says of a claim."""
    verdict = NEITHER
    if row.rho is not None and row.low is not None and row.high is not None:
        verdict = against(claim.than or 0.0, Estimate(row.rho, row.low, row.high))
    return Finding(verdict, f"{row.rho_text} over {row.n} of {len(table9.figure2_names())} networks")


def _evaluation(claim: PaperClaim, result: MeasuredResult) -> Found:
    """Accuracy of the user's weights on ImageNet's test set, or another, against the printed number of the claim."""
    than = float(claim.published_numbers[0][-1])
    for row in result.evaluations:
        is_meant = row.data == claim.data if claim.data else row.is_imagenet
        if {"variant": row.variant} in claim.levels and is_meant:
            half = 196 * standard_error(row.top1, row.images)
            value = Estimate(100 * row.top1, 100 * row.top1 - half, 100 * row.top1 + half)
            text = f"{value.value:.2f} % [{value.low:.2f}, {value.high:.2f}]"
            yield claim.data or "ImageNet", f"run {row.run_id[:8]}", [Finding(against(than, value), text)]


TESTS: Mapping[str, Callable[[PaperClaim, Any], Found]] = {
    "level": _level,
    "effect": _effect,
    "curve": _curve,
    "time": _time,
    "correlation": _correlation,
    "evaluation": _evaluation,
}
