"""Main effects and interactions of a study's factors: contrasts of the block model in statistics.py. No torch here.

A main effect is a level minus the factor's baseline level, the mean over all levels of the other factors. An
interaction of two factors is by how much the effect of one changes when the other leaves its baseline level, which is
also what both bring together beyond the sum of what each brings alone: a difference of differences, without the
factor 1/2 of some textbooks, the mean over further factors. One of three factors is the change of such an interaction,
and so on. Interactions are asked for where every factor has two levels. All that is asked is the family of Holm's test
and of the simultaneous intervals.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Level, level_label, level_text
from mobileone_core.study.statistics import ALPHA, BlockModel, Contrast, Sample, decided


@dataclass(frozen=True)
class Effect(Contrast):
    """What the levels named do, each against its factor's baseline: one is a main effect, several an interaction."""

    levels: Mapping[str, Level]

    @property
    def order(self) -> int:
        """1 for a main effect, 2 for an interaction of two factors."""
        return len(self.levels)

    @property
    def label(self) -> str:
        """ema x k = 4: a factor that is switched on goes by its name."""
        texts = {name: level_text(level) for name, level in self.levels.items()}
        return " x ".join(name if text == "on" else f"{name} = {text}" for name, text in texts.items())


def effects(study: Study, sample: Sample) -> tuple[Effect, ...]:
    """Every effect that a study of several factors can show, main effects first; the sample's levels are its arms.

    Missing cells are left out of the fit. An effect is tested where all arms that it spans have two values.
    """
    asked = asked_effects(study)
    if not asked:
        return ()
    model = BlockModel(sample)
    found = [model.contrast(_weights(study, levels), ALPHA / len(asked)) for levels in asked]
    found = [row if row.difference is not None else replace(row, verdict="not estimable") for row in found]
    rows = decided(found, ("raises", "lowers", "no effect shown"))
    return tuple(Effect(levels, **vars(row)) for levels, row in zip(asked, rows, strict=True))


def asked_effects(study: Study) -> list[dict[str, Level]]:
    """The levels that every effect names, by factor; none where fewer than two factors vary."""
    varied = [factor for factor in study.factors if len(factor.levels) > 1]
    if len(varied) < 2:
        return []
    others = {factor.name: [level for level in factor.levels if level != factor.baseline] for factor in varied}
    asked: list[dict[str, Level]] = [{name: level} for name, levels in others.items() for level in levels]
    if all(len(levels) == 1 for levels in others.values()):
        for order in range(2, len(varied) + 1):
            asked += [{name: others[name][0] for name in names} for names in itertools.combinations(others, order)]
    return asked


def _weights(study: Study, levels: Mapping[str, Level]) -> dict[str, float]:
    """The weight of every arm that the effect spans: signs of the factors named, means over the others."""
    weights = {}
    for arm in study.settings:
        weight = 1.0
        for factor in study.factors:
            if factor.name not in levels:
                weight /= len(factor.levels)
            elif arm[factor.name] != levels[factor.name]:
                weight *= -1.0 if arm[factor.name] == factor.baseline else 0.0
        if weight:
            weights[level_label(arm)] = weight
    return weights
