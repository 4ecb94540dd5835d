"""A study variable: levels, and what each of them sets in a cell."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as item
from typing import Any, TypeVar

from mobileone_core.benchmark.step_cell import PART, StepCell
from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import KINDS, LatencyCell, Runtime
from mobileone_core.training.cell import MULTIPLES, VARIED, CellSpec

Level = str | int | float | bool | tuple[int, ...]
PLAIN = (str, int, float, bool, type(None))
MeasuredCell = LatencyCell | StepCell
AnyCell = TypeVar("AnyCell", CellSpec, MeasuredCell)


TRAINED = tuple(f"{part}.{entry.name}" for part in VARIED for entry in dataclasses.fields(getattr(CellSpec(), part)))
MEASURED = (
    *dict.fromkeys(f"network.{entry.name}" for kind in KINDS.values() for entry in dataclasses.fields(kind)),
    *(f"runtime.{entry.name}" for entry in dataclasses.fields(Runtime)),
    "image_size",
    *(f"{PART}.{entry.name}" for entry in dataclasses.fields(StepCell)),
)


@dataclass(frozen=True)
class Factor:
    """A study variable: its name (the tag is factor.<name>), levels, baseline level and what a level sets.

    field names the CellSpec field that takes the level ("model.k"), or "model.width" and "model.depth", whose levels
    multiply the variant's own; in a measured study it is one of a LatencyCell ("network.activation") or of a
    StepCell ("step.k"). Several fields, or switches: settings gives each level, by a label, the fields that it sets; {}
    is the cell as the variant and the recipe have it. levels are then all labels unless some are named.
    """

    name: str
    field: str = ""
    levels: tuple[Level, ...] = ()
    baseline: Level = ""
    settings: Mapping[str, Mapping[str, Any]] = item(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.levels:
            object.__setattr__(self, "levels", tuple(self.settings))
        known = [*TRAINED, *MEASURED]
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

    def applied(self, spec: AnyCell, level: Level) -> AnyCell:
        """The cell with this factor at a level; InputError where a field refuses it."""
        try:
            return spec.changed(self.settings[str(level)] if self.settings else {self.field: level})
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(self.name) else f"{self.name}: {error}") from error


def fields_of(spec: Any) -> dict[str, Any]:  # noqa: ANN401
    """The fields of a cell's part (a dataclass) by name."""
    return {entry.name: getattr(spec, entry.name) for entry in dataclasses.fields(spec)}


def frozen(value: Any) -> Any:  # noqa: ANN401
    """JSON's lists as tuples."""
    if isinstance(value, dict):
        return {name: frozen(item) for name, item in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list) else value


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
