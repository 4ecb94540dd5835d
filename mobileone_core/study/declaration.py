"""A study as a declaration: a question, factors with levels, seeds, a metric."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError, require, require_choice, require_integer
from mobileone_core.fields import check_options, option
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.factor import TRAINED_FIELDS, AnyCell, Factor, Level, in_tuple
from mobileone_core.study.mistakes import Declared
from mobileone_core.training.cell import MULTIPLES, CellSpec
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.recipe_presets import FITTED, recipe_preset
from mobileone_core.training.tasks import metric_labels, task_spec

__all__ = ["Factor", "Level", "Study"]

RESERVED = ("evaluate", "device_latency")  # experiments of the record that belong to no study


@dataclass(frozen=True)
class Declaration(metaclass=Declared):
    """The declaration common to all kinds of studies: question, factors, and its place in the paper. Raises InputError.

    Args:
        name: letters, digits, "_" and "-"; it names queues, experiments and directories.
        question: the question in one sentence.
        factors: the study variables.
        reference: the paper's table or figure, such as "table 6"; empty if the paper does not ask the question.
        published: the table of printed numbers that the report shows next to the measured ones.
    """

    declared_in = ""  # no field: of an instance: the file that made it; empty for a notebook's cell

    name: str
    question: str
    factors: tuple[Factor, ...]
    reference: str = ""
    published: str = ""

    def __post_init__(self) -> None:
        allowed = f"letters, digits, '_' and '-', for it names directories; and not {', '.join(map(repr, RESERVED))}"
        fits = isinstance(self.name, str) and bool(re.fullmatch(r"[\w-]+", self.name)) and self.name not in RESERVED
        if isinstance(self.name, str) and " " in self.name.strip():
            allowed += f"; did you mean {'_'.join(self.name.split())!r}?"
        require(fits, "name", self.name, allowed)
        object.__setattr__(self, "factors", in_tuple("factors", self.factors, Factor))
        require(isinstance(self.question, str), "question", self.question, "text")
        names = [factor.name for factor in self.factors]
        require(len(set(names)) == len(names), "factors", names, "names, each once")

    @property
    def metric(self) -> str:
        """The metric of the record that decides."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """The place in the paper that the question comes from."""
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
        task: what networks are trained for: classification, detection or segmentation.
        variant, data, recipe: the presets that cells start from.
        base: what differs from the presets in every cell, by field: {"recipe.phases": "paper", "recipe.teachers":
            ("larger",)}.
        seeds: cells per setting.
    """

    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"
    base: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = option(5, "Cells per level, with seeds 0, 1 and so on.", partial(require_integer, at_most=100_000))
    task: str = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self)
        require_choice("data", self.data, task_spec(self.task).data_sets)
        is_default = self.task != CellSpec.task and self.recipe == TrainedStudy.recipe
        name = task_spec(self.task).default_recipe(self.data) if is_default else self.recipe
        recipe = recipe_preset(f"{task_spec(self.task).fitted}-0" if name == FITTED else name)
        cell = CellSpec(ModelSpec.preset(self.variant), DataSpec(self.data, channels=3), recipe, task=self.task)
        require(isinstance(self.base, Mapping), "base", self.base, "fields and their values: {...}")
        for name in self.base:
            require_choice("base", name, TRAINED_FIELDS)
        changes = dict(self.base)
        require_choice("base, phases", changes.pop("recipe.phases", "none"), ("none", "paper"))
        in_tuple("base, teachers", changes.pop("recipe.teachers", ()), str)
        try:
            cell.changed(changes)
        except InputError as error:
            raise InputError(f"base, {error}") from error
        cell = replace(cell, recipe=Recipe(epochs=10**6, augmentation=recipe.augmentation))
        for factor in self.factors:
            for name in factor.set_fields:
                require_choice(f"{factor.name}, field", name, TRAINED_FIELDS)
            for level in factor.levels:  # several integers, multiples and settings may need the plan's network
                if factor.field and factor.field not in MULTIPLES and not isinstance(level, tuple):
                    factor.applied(cell, level)


@dataclass(frozen=True)
class Study(TrainedStudy):
    """A study that trains every combination of levels with every seed.

    Args:
        metric: the metric of the record that decides.
        figure: "levels" draws the metric over the levels, "cost" over the cost of their deployed networks.
        curves: metrics whose training curves the report draws; the losses if none is named.
        compares: "forms" adds one exclusive measurement of time and memory in train and deployed form; "latency" one of
            the whole deployed networks, as they are exported, in ONNX Runtime.
        protocol: how many rounds and calls that measurement takes.
        within: the name of a factor whose levels are no rivals: each has its own baseline, at the other factors' ones.
        first_seed: the seed that seeds are counted from, so that others can be added elsewhere.

    Example:
        >>> k = Factor("k", "model.k", levels=(1, 4), baseline=1)
        >>> study = Study("my_study", "Does k = 4 beat k = 1?", (k,), seeds=3)
        >>> list(study.settings)
        [{'k': 1}, {'k': 4}]
    """

    metric: str = "test/top1"
    figure: Literal["levels", "cost"] = "levels"
    curves: tuple[str, ...] = ()
    compares: Literal["", "forms", "latency"] = ""
    protocol: Protocol = field(default_factory=Protocol)
    within: str = ""
    first_seed: int = option(
        0, "First of the seeds, such as 10 after seeds 0 to 9.", partial(require_integer, at_least=0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_baselines(self.factors)
        require_choice("within", self.within, ["", *(factor.name for factor in self.factors)])
        fractions = [f"{stage}/{name}" for stage in ("test", "val") for name in metric_labels()]
        losses = [f"{stage}/loss" for stage in ("test", "val", "train")]
        require_choice("metric", self.metric, [*fractions, *losses, "corrupted/top1", "time/train_seconds"])
        is_measured = self.metric != "corrupted/top1" or self.base.get("recipe.corrupted_test") is True
        require(is_measured, "metric", self.metric, 'with base={"recipe.corrupted_test": True}')
        object.__setattr__(self, "curves", in_tuple("curves", self.curves, str))
        by_epoch = [name for name in (*losses, *fractions) if not name.startswith("test/")]
        for name in self.curves:
            require_choice("curves", name, [*by_epoch, "train/learning_rate", "train/weight_decay"])


def require_baselines(factors: Collection[Factor]) -> None:
    """Raise InputError without a factor, and if a factor's baseline is not among its levels."""
    require(bool(factors), "factors", (), "one factor or more")
    for factor in factors:
        if factor.baseline not in factor.levels:
            allowed = f"the baseline level {factor.baseline!r} must be among the levels"
            raise InputError.of(factor.name, list(factor.levels), allowed)
