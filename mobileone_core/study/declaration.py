"""A study as a declaration: a question, factors with levels, seeds, a metric; and the plan it resolves to."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.model.cost import model_cost
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Recipe, recipe_preset

Level = str | int | float | bool | tuple[int, ...]
VARIED = ("model", "data", "recipe")  # the parts of a cell whose fields a factor can set


@dataclass(frozen=True)
class Factor:
    """A study variable: its name (the tag is factor.<name>), the CellSpec field it sets, levels and baseline."""

    name: str
    field: str
    levels: tuple[Level, ...]
    baseline: Level

    def __post_init__(self) -> None:
        part, _, name = self.field.partition(".")
        known = {part: _fields(getattr(CellSpec(), part)) for part in VARIED}
        fields = ", ".join(f"{part}.{name}" for part in known for name in known[part])
        require(name in known.get(part, ()), f"{self.name}, field", self.field, f"one of {fields}")
        once = len(set(self.levels)) == len(self.levels) >= 1
        require(once, self.name, list(self.levels), "one or more levels, each once")

    def applied(self, spec: CellSpec, level: Level) -> CellSpec:
        """The cell with this factor at a level; InputError where the field refuses it."""
        part, _, name = self.field.partition(".")
        try:
            value = getattr(spec, part)
            changed = value.changed(**{name: level}) if part == "model" else replace(value, **{name: level})
            return replace(spec, **{part: changed})
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(self.name) else f"{self.name}: {error}") from error


@dataclass(frozen=True)
class Study:
    """A question, the factors that answer it, seeds a level and the metric that decides.

    reference names the paper's table or figure, published the table of printed numbers shown beside ours.
    """

    name: str
    question: str
    factors: tuple[Factor, ...]
    reference: str = ""
    seeds: int = 5
    metric: str = "test/top1"
    published: str = ""
    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"

    def __post_init__(self) -> None:
        allowed = "letters, digits, '_' and '-': it names directories"
        require(re.fullmatch(r"[\w-]+", self.name) is not None, "name", self.name, allowed)
        fits = isinstance(self.seeds, int) and self.seeds >= 1
        require(fits, "seeds", self.seeds, "an integer of 1 or more")

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
    """A study resolved: all its cells. base is the cell that the factors vary, kept at their baseline levels;
    default says whether it is the study's own default settings."""

    study: Study
    base: CellSpec
    default: bool = False
    cells: tuple[PlannedCell, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self._resolve()))
        object.__setattr__(self, "base", self._at(self.study.baseline, seed=0))
        for factor in self.study.factors:
            allowed = f"the baseline level {factor.baseline!r} must be among the levels"
            require(factor.baseline in factor.levels, factor.name, list(factor.levels), allowed)

    def _resolve(self) -> Iterator[PlannedCell]:
        for seed, arm in itertools.product(range(self.study.seeds), self.study.arms):
            yield PlannedCell(self._at(arm, seed), self.study.name, self.study.variant, arm)

    def _at(self, arm: Mapping[str, Level], seed: int) -> CellSpec:
        spec = replace(self.base, seed=seed)
        for factor in self.study.factors:
            spec = factor.applied(spec, arm[factor.name])
        return spec

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the base that differ from the presets named, by name: model.activation and so on."""
        preset = preset_cell(self.study.variant, self.base.data, self.study.recipe)
        varied = {factor.field for factor in self.study.factors}
        return {
            f"{part}.{name}": value
            for part in ("model", "recipe")
            for name, value in _fields(getattr(self.base, part)).items()
            if value != getattr(getattr(preset, part), name) and f"{part}.{name}" not in varied
        }

    @property
    def queue(self) -> str:
        """Where its cells wait: plans of one study that differ in levels or seeds alone share a queue.

        So a command trains no cell of another data set or recipe. Usual settings have the study's own name.
        """
        usual = [(name, Study.__dataclass_fields__[name].default) for name in ("variant", "data", "recipe")]
        if not self.changes and all(getattr(self.study, name) == value for name, value in usual):
            return self.study.name
        mark = hashlib.sha256(self.base.to_json().encode()).hexdigest()[:6]
        return f"{self.study.name}-{self.study.variant}-{self.study.data}-{mark}"

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
        """Read a plan; InputError where another version wrote it."""
        content = json.loads(text)
        study: dict[str, Any] = content["study"]
        try:
            factors = tuple(Factor(**_frozen(item)) for item in study.pop("factors"))
            resolved = Study(factors=factors, **study)
        except TypeError as error:
            raise InputError(f"plan: written by another version ({error})") from error
        return cls(resolved, CellSpec.from_json(json.dumps(content["base"])), content["default"])


def preset_cell(variant: str, data: DataSpec, recipe: str) -> CellSpec:
    """A cell of presets alone: a variant fitted to the data's images, and a recipe by name."""
    model = ModelSpec.preset(variant, in_channels=data.channels).fitted_to(data.image_size)
    return CellSpec(model, data, recipe_preset(recipe, variant))


def _fields(spec: ModelSpec | DataSpec | Recipe) -> dict[str, Any]:
    return {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}


def _frozen(value: Any) -> Any:  # noqa: ANN401
    """JSON's lists as tuples."""
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
