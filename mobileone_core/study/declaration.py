"""A study as a declaration: a question, factors with levels, seeds, a metric."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mobileone_core.errors import require
from mobileone_core.study.factor import Factor, Level

__all__ = ["Factor", "Level", "Study"]

Comparison = Literal["", "forms"]
Figure = Literal["levels", "cost"]


RESERVED = ("evaluate", "device_latency")  # experiments of the record that are no study's


@dataclass(frozen=True)
class Declaration:
    """What every study declares: a question, the factors that answer it, and where the paper asks it.

    reference names the paper's table or figure, published the table of printed numbers shown beside ours.
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
    def source(self) -> str:
        """Where the paper asks the question."""
        return f"MobileOne (CVPR 2023), {self.reference}" if self.reference else "not in the paper"

    @property
    def arms(self) -> Iterator[dict[str, Level]]:
        """Every combination of levels, in the declared order."""
        names = [factor.name for factor in self.factors]
        for levels in itertools.product(*(factor.levels for factor in self.factors)):
            yield dict(zip(names, levels, strict=True))

    @property
    def baseline(self) -> dict[str, Level]:
        """The arm that every other one is compared with."""
        return {factor.name: factor.baseline for factor in self.factors}


@dataclass(frozen=True)
class Study(Declaration):
    """A study whose cells are trained: seeds a level, and the metric that decides.

    base holds what differs from the presets at every level, by field ("recipe.phases": "paper", "recipe.teachers":
    ("larger",)). The report draws the metric over the levels, or over the cost of their deployed networks where figure
    is "cost", and the training curves of the metrics named; compares "forms" adds one exclusive measurement of time and
    memory in train and deployed form.
    """

    seeds: int = 5
    metric: str = "test/top1"
    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"
    base: Mapping[str, Any] = field(default_factory=dict)
    figure: Figure = "levels"
    curves: tuple[str, ...] = ()
    compares: Comparison = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = isinstance(self.seeds, int) and self.seeds >= 1
        require(fits, "seeds", self.seeds, "an integer of 1 or more")
        for name, choices in (("figure", Figure), ("compares", Comparison)):
            value = getattr(self, name)
            require(value in get_args(choices), name, value, f"one of {', '.join(map(repr, get_args(choices)))}")
