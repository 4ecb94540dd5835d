"""A study variable: levels, and what each of them sets in a cell."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as item
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Recipe

Level = str | int | float | bool | tuple[int, ...]
VARIED = ("model", "recipe")  # the parts of a cell whose fields a factor can set
PLAIN = (str, int, float, bool, type(None))
MULTIPLES = ("model.width", "model.depth")  # of the variant's own widths and depths


@dataclass(frozen=True)
class Factor:
    """A study variable: its name (the tag is factor.<name>), levels, baseline level and what a level sets.

    field names the CellSpec field that takes the level ("model.k"), or "model.width" and "model.depth", whose levels
    multiply the variant's own. Several fields, or switches: settings gives each level, by a label, the fields that it
    sets; {} is the cell as the variant and the recipe have it. levels are then all labels unless some are named.
    """

    name: str
    field: str = ""
    levels: tuple[Level, ...] = ()
    baseline: Level = ""
    settings: Mapping[str, Mapping[str, Any]] = item(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.levels:
            object.__setattr__(self, "levels", tuple(self.settings))
        known = [f"{part}.{name}" for part in VARIED for name in fields_of(getattr(CellSpec(), part))]
        for name in self.named:
            require(name in known, f"{self.name}, field", name, f"one of {', '.join(known)}")
        for value in (value for changes in self.settings.values() for value in changes.values()):
            plain = isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(x, PLAIN) for x in value))
            require(plain, f"{self.name}, settings", value, "text, a number, a switch, None or a tuple of these")
        once = len(set(self.levels)) == len(self.levels) >= 1
        require(once, self.name, list(self.levels), "one or more levels, each once")
        strange = [level for level in self.levels if self.settings and level not in self.settings]
        require(not strange, self.name, strange, f"levels are {', '.join(self.settings)}")

    @property
    def named(self) -> set[str]:
        """The fields that its levels set, whichever they are."""
        if self.settings:
            return {name for changes in self.settings.values() for name in changes}
        return set() if self.field in MULTIPLES else {self.field}

    @property
    def fields(self) -> set[str]:
        """The fields that no option of a command line sets, because every level does."""
        is_switch = any(not changes for changes in self.settings.values())
        if self.field in MULTIPLES or is_switch:
            return set()
        return self.named

    def applied(self, spec: CellSpec, level: Level) -> CellSpec:
        """The cell with this factor at a level; InputError where a field refuses it."""
        try:
            if self.settings:
                return changed(spec, self.settings[str(level)])
            if self.field in MULTIPLES:
                multiple: dict[str, Any] = {self.field.partition(".")[2]: level}
                return replace(spec, model=spec.model.scaled(**multiple))
            return changed(spec, {self.field: level})
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(self.name) else f"{self.name}: {error}") from error


def changed(spec: CellSpec, changes: Mapping[str, Any]) -> CellSpec:
    """A cell with other fields, by names such as model.k."""
    for part in VARIED:
        named = {name.partition(".")[2]: value for name, value in changes.items() if name.partition(".")[0] == part}
        if named:
            spec = replace(spec, **{part: getattr(spec, part).changed(**named)})
    return spec


def fields_of(spec: ModelSpec | Recipe) -> dict[str, Any]:
    """A part's fields by name."""
    return {entry.name: getattr(spec, entry.name) for entry in dataclasses.fields(spec)}


def level_text(level: Level | list[int] | None) -> str:
    """One level as printed: on and off for a switch, several integers (JSON's list too) as they are typed, 0,0,1,1."""
    if isinstance(level, tuple | list):
        return ",".join(map(str, level))
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else str(level)


def level_label(arm: Mapping[str, Level]) -> str:
    """A combination of levels as printed: 4, or k = 4, se = none where there are several factors."""
    texts = {name: level_text(level) for name, level in arm.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{name} = {text}" for name, text in texts.items())
