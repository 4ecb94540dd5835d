"""A study variable: levels, what each of them sets in a cell, and levels and fields as text."""

import keyword
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import field as item
from itertools import chain
from typing import Any, TypeVar

from mobileone_core.benchmark.spec import PART, StepCell
from mobileone_core.data.spec import Phase
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.fields import make_plain
from mobileone_core.latency.cell import KINDS, LatencyCell, Runtime
from mobileone_core.study.mistakes import Declared
from mobileone_core.training.cell import BACKBONE, DATA_FIELDS, MULTIPLES, RECIPE, VARIED, CellSpec
from mobileone_core.training.recipe import Recipe, Teacher

Level = str | int | float | bool | tuple[int, ...]
COLUMNS = ("setting", "key", "seed", "run_id")  # of a table of results, which has one per factor, too
PLAIN = (str, int, float, bool, type(None))
MeasuredCell = LatencyCell | StepCell
AnyCell = TypeVar("AnyCell", CellSpec, MeasuredCell)


def _names(part: str, *specs: Any) -> tuple[str, ...]:
    """The fields of a cell's part, such as model.k; specs are the dataclasses that the part may be."""
    return tuple(dict.fromkeys(f"{part}.{entry.name}" for spec in specs for entry in fields(spec)))


TRAINED_FIELDS = (*chain(*(_names(part, getattr(CellSpec(), part)) for part in VARIED)), *DATA_FIELDS, BACKBONE)
MEASURED_FIELDS = (*_names("network", *KINDS.values()), *_names("runtime", Runtime), "image_size", "batch_size")
MEASURED_FIELDS += _names(PART, StepCell)


def require_distinct(field: str, values: Collection[Any], what: str = "values") -> None:
    """Raise InputError unless there are values, each once."""
    require(len(set(values)) == len(values) >= 1, field, list(values), f"one or more {what}, each once")


def in_tuple(field: str, values: object, *kinds: type) -> tuple[Any, ...]:
    """The values of a list or tuple as a tuple. Raises InputError for anything else, and for values of other kinds."""
    if not isinstance(values, list | tuple):
        raise InputError.of(field, values, "a tuple, which is written (A,) if it holds one value")
    for value in values:
        require(isinstance(value, kinds), field, value, f"a tuple of {' or '.join(kind.__name__ for kind in kinds)}")
    return tuple(values)


@dataclass(frozen=True)
class Factor(metaclass=Declared):
    """A study variable: its levels, and what each level sets in a cell. Raises InputError.

    Args:
        name: the factor's name; its tag in the record is factor.<name>.
        field: the field that takes the level: of a trained cell ("model.k", "recipe.lr", "data.image_size" or
            "data.val_fraction"), or "model.width" and "model.depth", whose levels multiply the variant's widths and
            depths, or "backbone", a variant or a network by name, or "recipe", a recipe by name; of a measured cell
            ("network.activation", "runtime.name", "batch_size") or of a training step ("step.k").
        levels: the levels, each once. With settings: labels, all of them if none is named.
        baseline: the level that the others are compared with.
        settings: instead of field, for levels that set several fields or switch something on: the fields that each
            label sets. {} leaves the cell as variant and recipe define it.
        labels: with field, short names of some of its values; the levels, if none is named.

    Example:
        >>> Factor("k", "model.k", levels=(1, 4), baseline=1).levels
        (1, 4)
        >>> Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off").levels
        ('off', 'on')
    """

    name: str
    field: str = ""
    levels: tuple[Level, ...] = ()
    baseline: Level = ""
    settings: Mapping[str, Mapping[str, Any]] = item(default_factory=dict)
    labels: Mapping[str, Level] = item(default_factory=dict)

    def __post_init__(self) -> None:
        is_name = isinstance(self.name, str) and self.name.isidentifier() and not keyword.iskeyword(self.name)
        require(is_name, "name of a factor", self.name, "letters, digits and '_': it is an option of the command line")
        require(bool(self.field) != bool(self.settings), f"{self.name}, field", self.field, "either field or settings")
        for changes in (self.settings, *self.settings.values()):
            require(isinstance(changes, Mapping), f"{self.name}, settings", changes, "the fields of each label: {...}")
            require(all(isinstance(name, str) for name in changes), f"{self.name}, settings", changes, "names as text")
        make_plain(self)
        levels = in_tuple(f"{self.name}, levels", self.levels, str, int, float, tuple)
        for numbers in (level for level in levels if isinstance(level, tuple)):
            in_tuple(f"{self.name}, levels", numbers, int)
        object.__setattr__(self, "levels", levels or tuple(self.settings or self.labels))
        for name in self.set_fields:
            require_choice(f"{self.name}, field", name, [*TRAINED_FIELDS, *MEASURED_FIELDS])
        for value in (value for changes in self.settings.values() for value in changes.values()):
            is_plain = all(isinstance(item, PLAIN) for item in (value if isinstance(value, tuple) else [value]))
            require(is_plain, f"{self.name}, settings", value, "text, a number, a switch, None or a tuple of these")
        require_distinct(self.name, self.levels, "levels")
        unknown = [level for level in self.levels if self.settings and level not in self.settings]
        require(not unknown, self.name, unknown, f"levels are {', '.join(self.settings)}")

    @property
    def set_fields(self) -> set[str]:
        """The fields that any of the levels sets; none for a multiple of widths or depths."""
        if self.settings:
            return {name for changes in self.settings.values() for name in changes}
        if self.field == RECIPE:
            return set(_names(RECIPE, Recipe))
        return set() if self.field in MULTIPLES else {self.field}

    @property
    def fields(self) -> set[str]:
        """The fields that every level sets, so that no option of the command line does."""
        return set() if {} in self.settings.values() else self.set_fields

    def applied(self, spec: AnyCell, level: Level) -> AnyCell:
        """The cell with this factor at a level. Raises InputError if a field refuses the level."""
        try:
            changes = self.settings[str(level)] if self.settings else {self.field: self.labels.get(str(level), level)}
            return spec.changed(changes)
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(self.name) else f"{self.name}: {error}") from error


def level_text(level: Level | list[int] | None) -> str:
    """A level as printed and typed: "on" and "off" for a switch, "0,0,1,1" for several integers."""
    if isinstance(level, tuple | list):
        return ",".join(map(str, level))
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else str(level)


def level_label(setting: Mapping[str, Level]) -> str:
    """A setting as printed: "4" for one factor, "k = 4, se = none" for several."""
    texts = list(map(level_text, setting.values()))
    return texts[0] if len(texts) == 1 else ", ".join(map(" = ".join, zip(setting, texts, strict=True)))


def field_text(name: str, value: Any) -> str:
    """A field and its value: "activation gelu", "teacher small"."""
    return TEXTS[name](value) if name in TEXTS else f"{name} {level_text(value)}"


def sizes_text(phases: Sequence[Phase]) -> str:
    """The resolutions of progressive learning: "24, 28, 32 px"."""
    return f"{', '.join(str(phase.image_size) for phase in phases)} px"


def _phases_text(phases: Sequence[Phase]) -> str:
    if not phases:
        return "no progressive learning"
    strengths = ", ".join(str(float(phase.autoaugment)) for phase in phases)
    return f"progressive learning {sizes_text(phases)} with AutoAugment {strengths}"


def _teachers_text(teachers: Sequence[Teacher]) -> str:
    names = [item.network + (f" (weights {item.weights})" if item.weights else "") for item in teachers]
    return f"teacher{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no teacher"


TEXTS: Mapping[str, Callable[[Any], str]] = {
    "image_size": lambda pixels: f"{pixels} px",
    "phases": _phases_text,
    "teachers": _teachers_text,
    "warmup_epochs": lambda epochs: f"warmup_epochs {round(epochs, 6)}",
    "weight_decay_end": lambda end: "constant weight decay" if end is None else f"weight decay annealed to {end:g}",
    "init": lambda digest: f"initial weights {digest}" if digest else "random initial weights",
    "head": lambda head: "new head" if head == "new" else "head of the initial weights where it fits",
    "frozen_norm": lambda is_frozen: "BN of the backbone frozen" if is_frozen else "BN trained",
    "head_lr_factor": lambda factor: f"learning rate of the head times {factor:g}",
    "frozen_stages": lambda count: f"stem and stages up to {count} frozen" if count else "all stages trained",
    "ema_decay": lambda decay: f"averaged weights (EMA {decay:g})" if decay else "last weights",
}
