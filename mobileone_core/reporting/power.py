"""The difference that a planned study could find, from the spread of the saved report of the nearest setting."""

import math
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.reporting.metric import metric_of
from mobileone_core.reporting.report import PLAN, read_report, read_saved_plan
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.statistics import ALPHA, detectable_effect

GUESSED_SD = 0.005  # of a fraction: half a point, between seeds of one level
MAX_SEEDS = 20


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a metric between seeds, in its shown unit, and the report that it comes from.

    source is empty for a guess.
    """

    sd: float
    source: str = ""


def nearest_spread(plan: GridPlan, reports: Path) -> Spread:
    """The spread of the report most like the plan, among those on its data set with its metric; else a guess.

    Reports of the same setting come first, then those of the same study, network and recipe.
    """
    metric, nearest = metric_of(plan.study.metric), list[tuple[tuple[object, ...], Path]]()
    for home in (path.parent for path in reports.glob(f"*/{PLAN}")):
        try:
            saved = read_saved_plan(home)
        except InputError:  # of another version
            continue
        if isinstance(saved, GridPlan) and _comparable(saved) == _comparable(plan):
            one, other = saved.study, plan.study
            unlike = (saved.queue != plan.queue, one.name != other.name, one.variant != other.variant)
            nearest.append(((*unlike, one.recipe != other.recipe, home.name), home))
    for _, home in sorted(nearest):
        saved, record = read_report(home)
        sd = analyse(saved, record).analysis.residual_sd if isinstance(saved, GridPlan) else None
        if sd:
            return Spread(sd, home.name)
    return Spread(GUESSED_SD * metric.scale)


def _comparable(plan: GridPlan) -> tuple[object, ...]:
    return plan.study.metric, plan.study.data, plan.base.data.fingerprint


def detectable(spread: Spread, levels: int, seeds: int) -> float | None:
    """The true difference from the baseline that so many seeds find with 80 % power; None for a single seed."""
    if seeds < 2 or levels < 2:
        return None
    return detectable_effect(spread.sd * math.sqrt(2 / seeds), (levels - 1) * (seeds - 1), ALPHA / (levels - 1))


def seeds_for(plan: GridPlan, difference: float, reports: Path) -> int:
    """The least number of seeds that finds a difference (in the metric's shown unit), at most MAX_SEEDS."""
    spread, levels = nearest_spread(plan, reports), len(list(plan.study.settings))
    for seeds in range(2, MAX_SEEDS):
        found = detectable(spread, levels, seeds)
        if found is not None and found <= difference:
            return seeds
    return MAX_SEEDS


def power_line(plan: GridPlan, reports: Path) -> str:
    """What the plan's seeds could find, as a sentence for --plan."""
    spread, seeds, metric = nearest_spread(plan, reports), plan.study.seeds, metric_of(plan.study.metric)
    least = detectable(spread, len(list(plan.study.settings)), seeds)
    if least is None:
        return "power: one seed finds no difference"
    source = f"as in {reports.name}/{spread.source}" if spread.source else "a guess: no report on these data"
    return (
        f"power: {seeds} seeds find a difference of {metric.amount(least)} from the baseline in 80 % of repeats, if "
        f"cells scatter by {metric.amount(spread.sd)} ({source})"
    )
