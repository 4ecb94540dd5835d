"""The plan that a study resolves to: all its cells, the teachers that they need, and the measurement beside them."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mobileone_core.benchmark.spec import AnySpec, Entry, FormsSpec
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError
from mobileone_core.model.cost import ModelCost, model_cost
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Factor, Level, fields_of, frozen, level_label
from mobileone_core.study.presets import preset_cell
from mobileone_core.training.cell import CellSpec, teacher_cell

AnyComparison = AnySpec
Role = Literal["cell", "teacher", "comparison"]
cached_cost = functools.lru_cache(maxsize=1024)(model_cost)  # all seeds of a setting share a network


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its place in a study; a teacher is no level of it."""

    spec: CellSpec
    study: str
    variant: str
    factors: Mapping[str, Level]
    role: Role = "cell"

    @cached_property
    def key(self) -> str:
        return self.spec.key

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def epochs(self) -> int:
        return self.spec.recipe.epochs

    @property
    def cost(self) -> int:
        """Multiply-adds of an image's forward pass in training, times the epochs: for order and forecasts.

        A teacher's pass counts a third: it has no backward one.
        """
        taught = sum(_cost(teacher.spec).deployed.macs // 3 for teacher in self.teachers)
        return (_cost(self.spec).train.macs + taught) * self.epochs

    @property
    def teachers(self) -> tuple["PlannedCell", ...]:
        """The cells to be trained first."""
        untrained = [item for item in self.spec.recipe.teachers if not item.weights]
        return tuple(
            PlannedCell(teacher_cell(self.spec, item), self.study, item.network, {"teacher": item.network}, "teacher")
            for item in untrained
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells to be complete first."""
        return tuple(item.key for item in self.teachers)


@dataclass(frozen=True)
class PlannedComparison:
    """The one exclusive measurement of a plan, after all its cells; who measures sees to it that nothing else runs."""

    spec: AnyComparison
    study: str
    variant: str
    needs: tuple[str, ...] = field(compare=False)
    role: Role = "comparison"
    seed: int = 0

    @cached_property
    def key(self) -> str:
        return self.spec.key

    @property
    def factors(self) -> Mapping[str, Level]:
        return {"comparison": self.spec.kind}

    @property
    def epochs(self) -> int:
        """Rounds, as progress counts."""
        return self.spec.protocol.rounds

    @property
    def cost(self) -> int:
        """As a cell's, roughly: four rounds of both forms take as long as an epoch of the embedded data.

        One that is measured alone weighs against nothing else.
        """
        if not isinstance(self.spec, FormsSpec):
            return len(self.spec.entries) * self.epochs
        costs = [_cost(entry.cell) for entry in self.spec.entries]
        return sum(cost.train.macs + cost.deployed.macs for cost in costs) * self.epochs // 4

    @property
    def data(self) -> str:
        """What the networks are given: images of a data set's size, or of a size of their own."""
        return self.spec.entries[0].cell.data.name if isinstance(self.spec, FormsSpec) else "random"


Queued = PlannedCell | PlannedComparison


@dataclass(frozen=True)
class Plan:
    """A study resolved: all its cells. base is the cell that the factors vary; default says whether it is the study's
    own default settings.

    cells are compared; teachers are trained first; comparison is measured last; queued holds them all.
    """

    study: Study
    base: CellSpec
    default: bool = False

    def __post_init__(self) -> None:
        settings = self._settings
        for factor in self.study.factors:
            if factor.baseline not in factor.levels:
                allowed = f"the baseline level {factor.baseline!r} must be among the levels"
                raise InputError.of(factor.name, list(factor.levels), allowed)
        labels: dict[str, str] = {}
        for setting, spec in settings:
            label = level_label(setting)
            if labels.setdefault(spec.key, label) != label:
                raise InputError(self._alike() or f"levels: {labels[spec.key]} and {label} are the same cells")

    def _alike(self) -> str:
        """What is wrong where two levels of one factor come to the same cells; empty where it is two factors."""
        for factor in self.study.factors:
            for level, other in itertools.combinations(factor.levels, 2):
                if factor.applied(self.base, level) == factor.applied(self.base, other):
                    fields = ", ".join(sorted(factor.named))
                    alike = f"{level!r} and {other!r} come to the same cells"
                    return f"{factor.name}: {alike}; the base has {fields} so already"
        return ""

    @cached_property
    def _settings(self) -> tuple[tuple[Mapping[str, Level], CellSpec], ...]:
        """Every combination of levels with its cell, whatever the seed."""
        return tuple((setting, self._at(setting)) for setting in self.study.arms)

    def _at(self, setting: Mapping[str, Level]) -> CellSpec:
        spec = self.base
        for factor in self.study.factors:
            spec = factor.applied(spec, setting[factor.name])
        return spec

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Every combination of levels with every seed, a seed after the other."""
        return tuple(
            PlannedCell(spec.with_seed(seed), self.study.name, self.study.variant, setting)
            for seed, (setting, spec) in itertools.product(range(self.study.seeds), self._settings)
        )

    @cached_property
    def teachers(self) -> tuple[PlannedCell, ...]:
        """Every cell to be trained first, once; one that is a level of the study is no other."""
        own = {cell.key for cell in self.cells}
        found = {teacher.key: teacher for cell in self.cells for teacher in cell.teachers}
        return tuple(teacher for key, teacher in found.items() if key not in own)

    @cached_property
    def comparison(self) -> PlannedComparison | None:
        """The measurement of all levels side by side, where the study has one."""
        if not self.study.compares:
            return None
        first = [cell for cell in self.cells if cell.seed == 0]
        reference = level_label(self.study.baseline)
        spec = FormsSpec(tuple(Entry(level_label(cell.factors), cell.factors, cell.spec, reference) for cell in first))
        needs = tuple(cell.key for cell in (*self.teachers, *self.cells))
        return PlannedComparison(spec, self.study.name, self.study.variant, needs)

    @cached_property
    def queued(self) -> tuple[Queued, ...]:
        """All that waits in a queue: teachers, cells, and the comparison."""
        return (*self.teachers, *self.cells, *filter(None, [self.comparison]))

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the base that differ from the presets named, by name: model.activation and so on.

        data.image_size stands first, where it is not the data's own: the presets are fitted to the one asked for.
        """
        size = self.base.data.image_size
        resized = {} if size == DATA_SETS[self.base.data.name].image_size else {"data.image_size": size}
        preset = preset_cell(self.study.variant, self.base.data, self.study.recipe, self.study.base)
        varied = {name for factor in self.study.factors for name in factor.fields}
        return resized | {
            f"{part}.{name}": value
            for part in ("model", "recipe")
            for name, value in fields_of(getattr(self.base, part)).items()
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
        spec = self.base
        for factor in (factor for factor in self.study.factors if factor.field and not factor.settings):
            spec = factor.applied(spec, factor.baseline)
        mark = hashlib.sha256(spec.to_json().encode()).hexdigest()[:6]
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
        study: dict[str, Any] = frozen(content["study"])
        try:
            factors = tuple(Factor(**item) for item in study.pop("factors"))
            resolved = Study(factors=factors, **study)
        except TypeError as error:
            raise InputError(f"plan: written by another version ({error})") from error
        return cls(resolved, CellSpec.from_json(json.dumps(content["base"])), content["default"])


def _cost(spec: CellSpec) -> ModelCost:
    return cached_cost(spec.model, spec.data.image_size, spec.data.num_classes)
