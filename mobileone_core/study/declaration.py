"""A study as a declaration: a question, factors with levels, seeds, a metric; and the plan it resolves to."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.model.cost import model_cost
from mobileone_core.training.cell import CellSpec

Level = str | int | float | bool


@dataclass(frozen=True)
class Factor:
    """A study variable: its name (the tag is factor.<name>), the CellSpec field it sets, levels and baseline."""

    name: str
    field: str
    levels: tuple[Level, ...]
    baseline: Level

    def __post_init__(self) -> None:
        once = len(set(self.levels)) == len(self.levels) >= 1
        require(once, self.name, list(self.levels), "one or more levels, each once")

    def applied(self, spec: CellSpec, level: Level) -> CellSpec:
        """The cell with this factor at a level; InputError where the field refuses it."""
        part, _, name = self.field.partition(".")
        try:
            return replace(spec, **{part: replace(getattr(spec, part), **{name: level})})
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class Study:
    """A question, the factors that answer it, seeds a level and the metric that decides.

    reference names the paper's table or figure, published the table of printed numbers shown beside ours.
    """

    name: str
    question: str
    reference: str
    factors: tuple[Factor, ...]
    seeds: int = 5
    metric: str = "test/top1"
    published: str = ""
    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"

    def __post_init__(self) -> None:
        fits = isinstance(self.seeds, int) and self.seeds >= 1
        require(fits, "seeds", self.seeds, "an integer of 1 or more")

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
class PlannedCell:
    """A cell with its place in a study."""

    spec: CellSpec
    study: str
    variant: str
    factors: Mapping[str, Level]

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def cost(self) -> int:
        """Multiply-adds of an image's forward pass in training, times the epochs: for order and forecasts."""
        data = self.spec.data
        return model_cost(self.spec.model, data.image_size, data.num_classes).train.macs * self.spec.recipe.epochs


@dataclass(frozen=True)
class Plan:
    """A study resolved: all its cells. base is the cell that the factors vary; default says whether it is the
    study's own default settings."""

    study: Study
    base: CellSpec
    default: bool = False
    cells: tuple[PlannedCell, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self._resolve()))
        for factor in self.study.factors:
            allowed = f"the baseline level {factor.baseline!r} must be among the levels"
            require(factor.baseline in factor.levels, factor.name, list(factor.levels), allowed)

    def _resolve(self) -> Iterator[PlannedCell]:
        for seed, arm in itertools.product(range(self.study.seeds), self.study.arms):
            spec = replace(self.base, seed=seed)
            for factor in self.study.factors:
                spec = factor.applied(spec, arm[factor.name])
            yield PlannedCell(spec, self.study.name, self.study.variant, arm)

    @property
    def id(self) -> str:
        """The plan's name: a hash of all it declares."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:8]

    def to_json(self) -> str:
        """The declaration as recorded; from_json resolves the same cells from it."""
        content = {
            "study": dataclasses.asdict(self.study),
            "base": json.loads(self.base.to_json()),
            "default": self.default,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        content = json.loads(text)
        study: dict[str, Any] = content["study"]
        factors = tuple(Factor(**{**item, "levels": tuple(item["levels"])}) for item in study.pop("factors"))
        return cls(Study(factors=factors, **study), CellSpec.from_json(json.dumps(content["base"])), content["default"])
