"""Main effects and interactions of a study's factors: contrasts of the block model in statistics.py.

A main effect is a level minus the factor's baseline level, averaged over all levels of the other factors. An
interaction of two factors is the change of one factor's effect when the other leaves its baseline level, averaged over
further factors: a difference of differences, without the factor 1/2 of some textbooks. It is what both factors add
beyond the sum of their single effects. An interaction of three factors is the change of an interaction of two, and so
on. Interactions are estimated if every factor has two levels. All estimated effects together are the family of Holm's
test and of the simultaneous intervals.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Level, level_label, level_text
from mobileone_core.study.least_squares import Contrast, LevelFit, Sample
from mobileone_core.study.statistics import ALPHA, with_verdicts


@dataclass(frozen=True)
class Effect(Contrast):
    """Effect of one level (a main effect) or of several (an interaction), each against its factor's baseline."""

    levels: Mapping[str, Level]

    @property
    def order(self) -> int:
        """1 for a main effect, 2 for an interaction of two factors."""
        return len(self.levels)

    @property
    def label(self) -> str:
        """Name of the effect, such as "ema x k = 4"; a switch that is on is named by its factor alone."""
        texts = {name: level_text(level) for name, level in self.levels.items()}
        return " x ".join(name if text == "on" else f"{name} = {text}" for name, text in texts.items())


def effects(study: Study, sample: Sample, trainings: Mapping[str, str] | None = None) -> tuple[Effect, ...]:
    """Estimate every effect of a study of several factors, main effects first.

    The sample's levels are the study's settings; trainings are those of statistics.compare. Missing cells are left out
    of the fit. An effect is tested if all settings that it spans have two values.
    """
    effect_levels, model = estimated_effects(study), LevelFit(sample, trainings)
    rows = [model.contrast(effect_weights(study, levels), ALPHA / len(effect_levels)) for levels in effect_levels]
    rows = [row if row.difference is not None else replace(row, verdict="not estimable") for row in rows]
    rows = with_verdicts(rows, ("raises", "lowers", "no effect shown"))
    return tuple(Effect(levels, **vars(row)) for levels, row in zip(effect_levels, rows, strict=True))


def estimated_effects(study: Study) -> list[dict[str, Level]]:
    """The levels of every effect, by factor; none if fewer than two factors vary."""
    varied = [factor for factor in study.factors if len(factor.levels) > 1]
    if len(varied) < 2:
        return []
    compared = [factor for factor in varied if factor.name != study.within]
    others = {factor.name: [level for level in factor.levels if level != factor.baseline] for factor in compared}
    effect_levels: list[dict[str, Level]] = [{name: level} for name, levels in others.items() for level in levels]
    if not study.within and all(len(levels) == 1 for levels in others.values()):
        for order in range(2, len(varied) + 1):
            names = itertools.combinations(others, order)
            effect_levels += [{name: others[name][0] for name in chosen} for chosen in names]
    return effect_levels


def effect_weights(study: Study, levels: Mapping[str, Level]) -> dict[str, float]:
    """Weight of every setting that an effect spans: signs of the effect's factors, means over the others."""
    weights = {}
    for setting in study.settings:
        weight = 1.0
        for factor in study.factors:
            if factor.name not in levels:
                weight /= len(factor.levels)
            elif setting[factor.name] != levels[factor.name]:
                weight *= -1.0 if setting[factor.name] == factor.baseline else 0.0
        if weight:
            weights[level_label(setting)] = weight
    return weights
