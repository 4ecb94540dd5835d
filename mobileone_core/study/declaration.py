"""A study as a declaration: a question, factors with levels, seeds, a metric."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from mobileone_core.errors import InputError, require, require_integer
from mobileone_core.fields import check_options, option
from mobileone_core.study.factor import AnyCell, Factor, Level

__all__ = ["Factor", "Level", "Study"]

Comparison = Literal["", "forms"]
Figure = Literal["levels", "cost"]
_NOT_NEGATIVE = partial(require_integer, at_least=0)
RESERVED = ("evaluate", "device_latency")  # experiments of the record that belong to no study


@dataclass(frozen=True)
class Declaration:
    """What every kind of study declares: question, factors, and where the paper asks it. Raises InputError.

    Args:
        name: letters, digits, "_" and "-"; it names queues, experiments and directories.
        question: the question in one sentence.
        factors: the study variables.
        reference: the paper's table or figure, such as "table 6"; empty if the paper does not ask the question.
        published: the table of printed numbers that the report shows next to the measured ones.
    """

    name: str
    question: str
    factors: tuple[Factor, ...]
    reference: str = ""
    published: str = ""

    def __post_init__(self) -> None:
        allowed = f"letters, digits, '_' and '-', for it names directories; and not {', '.join(map(repr, RESERVED))}"
        fits = re.fullmatch(r"[\w-]+", self.name) is not None and self.name not in RESERVED
        require(fits, "name", self.name, allowed)

    @property
    def metric(self) -> str:
        """The metric of the record that decides."""
        raise NotImplementedError

    @property
    def curves(self) -> tuple[str, ...]:
        """The metrics whose training curves the report draws."""
        return ()

    @property
    def source(self) -> str:
        """Where the paper asks the question."""
        return f"MobileOne (CVPR 2023), {self.reference}" if self.reference else "not in the paper"

    @property
    def settings(self) -> Iterator[dict[str, Level]]:
        """Every combination of levels by factor, in the declared order."""
        for levels in itertools.product(*(factor.levels for factor in self.factors)):
            yield {factor.name: level for factor, level in zip(self.factors, levels, strict=True)}

    @property
    def baseline(self) -> dict[str, Level]:
        """The setting that the others are compared with."""
        return {factor.name: factor.baseline for factor in self.factors}

    def applied(self, cell: AnyCell, setting: Mapping[str, Level]) -> AnyCell:
        """The cell with every factor at its level. Raises InputError if a field refuses its level."""
        for factor in self.factors:
            cell = factor.applied(cell, setting[factor.name])
        return cell


@dataclass(frozen=True)
class TrainedStudy(Declaration):
    """A study whose cells are trained, starting from presets.

    Args:
        variant, data, recipe: the presets that cells start from.
        base: what differs from the presets in every cell, by field: {"recipe.phases": "paper", "recipe.teachers":
            ("larger",)}.
        seeds: cells per setting.
    """

    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"
    base: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = option(5, "Cells per level, with seeds 0, 1 and so on.", require_integer)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self)


@dataclass(frozen=True)
class Study(TrainedStudy):
    """A study that trains every combination of levels with every seed.

    Args:
        metric: the metric of the record that decides.
        figure: "levels" draws the metric over the levels, "cost" over the cost of their deployed networks.
        curves: metrics whose training curves the report draws.
        compares: "forms" adds one exclusive measurement of time and memory in train and deployed form.
        first_seed: the seed that seeds are counted from, so that others can be added elsewhere.

    Example:
        >>> k = Factor("k", "model.k", levels=(1, 4), baseline=1)
        >>> study = Study("my_study", "Does k = 4 beat k = 1?", (k,), seeds=3)
        >>> list(study.settings)
        [{'k': 1}, {'k': 4}]
    """

    metric: str = "test/top1"
    figure: Figure = "levels"
    curves: tuple[str, ...] = ()
    compares: Comparison = ""
    first_seed: int = option(0, "First of the seeds, such as 10 after seeds 0 to 9.", _NOT_NEGATIVE)


def require_baselines(factors: Iterable[Factor]) -> None:
    """Raise InputError if a factor's baseline is not among its levels."""
    for factor in factors:
        if factor.baseline not in factor.levels:
            allowed = f"the baseline level {factor.baseline!r} must be among the levels"
            raise InputError.of(factor.name, list(factor.levels), allowed)
