"""The plan of a study whose cells are all known beforehand: every combination of levels with every seed."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from mobileone_core.benchmark.spec import DeployedSpec, Entry, FormsSpec
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Level, field_text, level_label, sizes_text
from mobileone_core.study.plan import Plan, PlannedCell, PlannedComparison, span, study_from_json
from mobileone_core.study.presets import TrainingOptions, preset_cell
from mobileone_core.training.cell import RECIPE, CellSpec
from mobileone_core.training.tasks import task_spec

LOSSES, MOST_CELLS = ("train/loss", "val/loss"), 500  # with curves although the study names none
NETWORK = re.compile(r"model\.|backbone$")  # fields of a cell that set its network
# Changes that the overview shows anyway.
SHOWN_ANYWAY = {"data.image_size", *(f"recipe.{name}" for name in ("epochs", "batch_size", "optimizer", "lr"))}


@dataclass(frozen=True)
class GridPlan(Plan):
    """A Study resolved: factors and seeds vary the cell base; comparison, if any, measures the cells of seed 0.

    Raises InputError if a factor refuses a level, lacks its baseline level, or two levels give the same cells.
    """

    kind: ClassVar[str] = ""

    study: Study
    base: CellSpec

    def __post_init__(self) -> None:
        labels = dict[str, str]()
        for setting, spec in self._settings:
            label = level_label(setting)
            if (other := labels.setdefault(spec.key, label)) != label:
                raise InputError(self._equal_levels() or f"levels: {other} and {label} are the same cells")

    def _equal_levels(self) -> str:
        """The error if two levels of one factor give the same cells; empty if levels of two factors do."""
        for factor in self.study.factors:
            for level, other in itertools.combinations(factor.levels, 2):
                if factor.applied(self.base, level) == factor.applied(self.base, other):
                    equal = f"{factor.name}: {level!r} and {other!r} come to the same cells"
                    return f"{equal}; the base has {', '.join(sorted(factor.set_fields))} so already"
        return ""

    @cached_property
    def _settings(self) -> tuple[tuple[Mapping[str, Level], CellSpec], ...]:
        """Every setting with its cell, whatever the seed."""
        return tuple((setting, self.study.applied(self.base, setting)) for setting in self.study.settings)

    @property
    def curves(self) -> tuple[str, ...]:
        """Metrics whose training curves the report draws: the study's, else the losses of a plan that is not huge."""
        return self.study.curves or (LOSSES if len(self.cells) <= MOST_CELLS else ())

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Every setting with every seed, seed by seed."""
        seeds = range(self.study.first_seed, self.study.first_seed + self.study.seeds)
        return tuple(
            PlannedCell(spec.with_seed(seed), self.study.name, spec.backbone or self.study.variant, setting)
            for seed, (setting, spec) in itertools.product(seeds, self._settings)
        )

    @cached_property
    def teachers(self) -> tuple[PlannedCell, ...]:
        """The cells' teachers, each once, except those that are cells of the study themselves.

        A classifier to start from also has the levels of the factors that set its network.
        """
        if not any(cell.teachers for cell in self.cells[: len(self._settings)]):  # one seed tells of all
            return ()
        keys, teachers = {cell.key for cell in self.cells}, dict[str, PlannedCell]()
        names = [item.name for item in self.study.factors if any(map(NETWORK.match, item.set_fields))]
        for cell, teacher in ((item, teacher) for item in self.cells for teacher in item.teachers):
            levels = {name: cell.factors[name] for name in names if "classifier" in teacher.factors}
            teachers.setdefault(teacher.key, replace(teacher, factors={**teacher.factors, **levels}))
        return tuple(teacher for key, teacher in teachers.items() if key not in keys)

    @cached_property
    def comparison(self) -> PlannedComparison | None:
        """The measurement of all settings side by side, if the study has one."""
        if not self.study.compares:
            return None
        reference = level_label(self.study.baseline)
        entries = (Entry(level_label(levels), levels, cell.with_seed(0), reference) for levels, cell in self._settings)
        spec_type = FormsSpec if self.study.compares == "forms" else DeployedSpec
        spec = spec_type(tuple(entries), self.study.protocol)
        needs = tuple(cell.key for cell in (*self.teachers, *self.cells))
        return PlannedComparison(spec, self.study.name, self.study.variant, needs)

    @property
    def network(self) -> str:
        """The trained network in a title: the variant, unless all levels have a network by name."""
        return self.study.variant if any(not spec.backbone for _, spec in self._settings) else "networks by name"

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the base that differ from the presets, by name such as model.activation.

        data.image_size comes first if it differs from the data set's: the presets are fitted to the one requested.
        """
        size, varied = self.base.data.image_size, {name for factor in self.study.factors for name in factor.fields}
        usual = DATA_SETS[self.base.data.name].image_size
        resized = {} if size == usual or "data.image_size" in varied else {"data.image_size": size}
        study = self.study
        preset = preset_cell(study.variant, self.base.data, study.recipe, study.base, study.task)
        return resized | {
            f"{part}.{name}": value
            for part in ("model", "recipe", "head")
            for name, value in vars(getattr(self.base, part)).items()
            if value != getattr(getattr(preset, part), name) and f"{part}.{name}" not in varied
        }

    @property
    def follows_data(self) -> bool:
        """Whether variant and recipe are the defaults of a data set other than digits, with no field changed."""
        task, study = task_spec(self.base.task), self.study
        usual = task.variants.get(study.data, Study.variant), task.default_recipe(study.data)
        named = study.data != Study.data and not self.base.data.fingerprint
        return named and (study.variant, study.recipe) == usual and not self.changes

    @cached_property
    def queue(self) -> str:
        """The study's name with its default variant, data and recipe, else with a hash of what differs.

        Plans that differ in levels or seeds alone share a queue, so a command trains no cell of another data set.
        """
        is_usual = all(getattr(self.study, name) == getattr(Study, name) for name in ("variant", "data", "recipe"))
        if is_usual and not self.changes:
            return self.study.name
        spec = self.base
        for factor in (factor for factor in self.study.factors if factor.field):
            spec = factor.applied(spec, factor.baseline)
        digest = hashlib.sha256(spec.to_json().encode()).hexdigest()[:6]
        return f"{self.study.name}-{self.study.variant}-{self.study.data}-{digest}"

    @property
    def resolved(self) -> dict[str, Any]:
        """The base; a plan that names no kind is of this one."""
        return {"base": json.loads(self.base.to_json())}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "GridPlan":
        """Read a recorded plan's JSON content. Raises InputError if another version wrote it."""
        base = CellSpec.from_json(json.dumps(content["base"]))
        return cls(study_from_json(Study, content["study"]), base, default=content["default"])

    def overview(self, states: str) -> list[str]:
        """The lines of --plan: cells (states is a text that counts them), data, recipe, and changes from the preset."""
        return [f"{self.study.name}: {len(self.queued)} cells; {states}", *self.training_lines]

    @property
    def training_lines(self) -> list[str]:
        """Lines about network, recipe, images and steps, and warnings."""
        recipe, data = self.base.recipe, self.base.data
        sizes = {cell.spec.data.image_size for cell in self.cells}
        fields = f": {recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} lr {recipe.lr:g}"
        title = self.recipe_title + fields * self.recipe_title.startswith("recipe ")
        texts = {name: field_text(name.partition(".")[2], value) for name, value in self.changes.items()}
        if recipe.teachers:
            texts["recipe.teachers"] = field_text("teachers", recipe.teachers)
        if recipe.phases:
            texts["recipe.phases"] = f"phases {sizes_text(recipe.phases)}"
        hidden = SHOWN_ANYWAY.union(*(factor.fields for factor in self.study.factors))
        others = "".join(f"; {text}" for name, text in texts.items() if name not in hidden)
        line = f"{self.network} on {data.name} at {span(sizes)} px; {title}{others}"
        return [line, *super().training_lines]

    @property
    def recipe_title(self) -> str:
        """The recipe in a title, or that the levels are recipes."""
        is_varied = any(factor.field == RECIPE for factor in self.study.factors)
        return "recipes as levels" if is_varied else f"recipe {self.study.recipe}"


class GridOptions(TrainingOptions):
    """The command line of a Study."""

    def plan(self, study: Study, base: CellSpec, usual: tuple[Study, CellSpec] | None) -> GridPlan:
        """The plan of a study and base cell with the options applied; default if both are unchanged."""
        return GridPlan(study, base, default=(study, base) == usual)
