"""The difference that a planned study could find, from the spread of the saved report of the nearest setting."""

import math
import sys
from contextlib import suppress
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.reporting.metric import metric_of
from mobileone_core.reporting.report import read_report, read_saved_plan, report_homes
from mobileone_core.reporting.trained.result import analyse, trainings_of
from mobileone_core.study.effects import effect_weights, estimated_effects
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.least_squares import detectable_effect, training_totals
from mobileone_core.study.statistics import ALPHA

GUESSED_SD = 0.005  # of a fraction: half a point, between seeds of one level
MAX_SEEDS = 20


def nearest_spread(plan: GridPlan, reports: Path) -> tuple[float, str]:
    """The standard deviation between seeds, in the metric's shown unit, and the name of the report that has it.

    That is the report most like the plan (setting, study, network, recipe) on its data. Without one it is a guess, and
    the name is empty.
    """
    nearest = list[tuple[tuple[object, ...], Path]]()
    for home in report_homes(reports):
        with suppress(InputError):  # of another version
            saved = read_saved_plan(home)
            if isinstance(saved, GridPlan) and _comparable(saved) == _comparable(plan):
                one, other = saved.study, plan.study
                unlike = (saved.queue != plan.queue, one.name != other.name, one.variant != other.variant)
                nearest.append(((*unlike, one.recipe != other.recipe, home.name), home))
    for _, home in sorted(nearest):
        with suppress(InputError):  # cells that cannot be read
            saved, record = read_report(home)
            if isinstance(saved, GridPlan) and (sd := analyse(saved, record).analysis.residual_sd):
                return sd, home.name
    return GUESSED_SD * metric_of(plan.study.metric).scale, ""


def _comparable(plan: GridPlan) -> tuple[object, ...]:
    return plan.study.metric, plan.study.data, plan.base.data.fingerprint


def detectable(sd: float, levels: int, seeds: int, tests: int = 0, weight: float = 2.0) -> float | None:
    """The true difference from the baseline that so many seeds find with 80 % power; None for a single seed.

    sd: between seeds. For another contrast, tests: those of its family; weight: the sum of its squared weights.
    """
    if seeds < 2 or levels < 2:
        return None
    error, df = sd * math.sqrt(weight / seeds), (levels - 1) * (seeds - 1)
    return detectable_effect(error, df, ALPHA / (tests or levels - 1))


def planned(plan: GridPlan, sd: float, seeds: int) -> float | None:
    """The difference, or main effect where several factors vary, that so many seeds of a plan find with 80 % power."""
    effects, trainings = estimated_effects(plan.study), trainings_of(plan)
    weights = [effect_weights(plan.study, effect) for effect in effects if len(effect) == 1]
    each = [*weights, *(training_totals(of, trainings) for of in weights)]  # readings of a training vary together
    weight = max((sum(value**2 for value in of.values()) for of in each), default=2.0)
    levels = len(set(trainings.values())) if effects else len(trainings)
    return detectable(sd, levels, seeds, len(effects), weight)


def seeds_for(plan: GridPlan, difference: float, reports: Path) -> int:
    """The least number of seeds that finds a difference (in the metric's shown unit), at most MAX_SEEDS."""
    sd, _ = nearest_spread(plan, reports)
    for seeds in range(2, MAX_SEEDS + 1):
        least = planned(plan, sd, seeds)
        if least is not None and least <= difference:
            return seeds
    least_text = "nothing" if least is None else metric_of(plan.study.metric).amount(least)
    most = f"{MAX_SEEDS} seeds, the most that auto takes"
    print(f"detect: {most}, find {least_text}, not {difference:g}", file=sys.stderr)
    return MAX_SEEDS


def power_line(plan: GridPlan, reports: Path) -> str:
    """A sentence for --plan about the difference that the plan's seeds could find."""
    (sd, report), seeds, metric = nearest_spread(plan, reports), plan.study.seeds, metric_of(plan.study.metric)
    least = planned(plan, sd, seeds)
    if least is None:
        return "power: one seed finds no difference"
    source = f"as in {reports.name}/{report}" if report else "a guess: no report on these data"
    amount = metric.amount(least)
    what = f"main effect of {amount}" if estimated_effects(plan.study) else f"difference of {amount} from the baseline"
    scatter = f"cells scatter by {metric.amount(sd)} ({source})"
    return f"power: {seeds} seeds find a {what} in 80 % of repeats, if {scatter}"
