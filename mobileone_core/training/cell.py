"""A cell: one network, one data set, one recipe, one seed; and the key that names it. No torch here."""

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.recipe import Recipe

VARIED = ("model", "recipe")  # the parts whose fields a study can set
MULTIPLES = ("model.width", "model.depth")  # of the variant's own widths and depths
SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema


@dataclass(frozen=True)
class CellSpec:
    """What a cell is. How it runs (device, threads, workers, memory format, compilation) is no part of it."""

    model: ModelSpec = field(default_factory=ModelSpec)
    data: DataSpec = field(default_factory=DataSpec)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def __post_init__(self) -> None:
        require(isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "an integer of 0 or more")

    def changed(self, changes: Mapping[str, Any]) -> "CellSpec":
        """This cell with other fields, by names such as model.k; model.width and model.depth multiply its own."""
        model = self.model.scaled(**{name.partition(".")[2]: changes[name] for name in MULTIPLES if name in changes})
        parts: dict[str, Any] = {"model": model, "recipe": self.recipe}
        for part in VARIED:
            named = {name.partition(".")[2]: value for name, value in changes.items() if name.partition(".")[0] == part}
            named = {name: value for name, value in named.items() if f"{part}.{name}" not in MULTIPLES}
            parts[part] = parts[part].changed(**named) if named else parts[part]
        return replace(self, **parts)

    def with_seed(self, seed: int) -> "CellSpec":
        """This cell with another seed; the seeds of a setting share its other differences from the defaults."""
        other = replace(self, seed=seed)
        other.__dict__["_unseeded"] = self._unseeded
        return other

    @functools.cached_property
    def _unseeded(self) -> dict[str, Any]:
        """The differences from the defaults, without the seed's."""
        return {name: change for name, change in _differences(self).items() if name != "seed"}

    @property
    def key(self) -> str:
        """The cell's name: a hash of the fields that differ from the defaults, and of the schema's version."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it back."""
        content = {"schema": SCHEMA, **self._unseeded, **({"seed": self.seed} if self.seed else {})}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "CellSpec":
        """Read a cell; InputError where a newer schema wrote it."""
        content = json.loads(text)
        schema = content.pop("schema", None)
        require(schema == SCHEMA, "schema", schema, f"this version reads records of schema {SCHEMA}")
        return typing.cast("CellSpec", _rebuild(cls, content))


def _differences(value: Any) -> dict[str, Any]:  # noqa: ANN401
    default, hints = _defaults(type(value))
    changed: dict[str, Any] = {}
    for name in (item.name for item in dataclasses.fields(value)):
        mine, usual = getattr(value, name), getattr(default, name)
        if mine == usual:
            continue
        changed[name] = _differences(mine) if dataclasses.is_dataclass(mine) else _plain(mine, hints[name])
    return changed


@functools.cache
def _defaults(kind: type) -> tuple[Any, dict[str, Any]]:
    """An instance with every field at its default, and the type hints of the fields."""
    return kind(), typing.get_type_hints(kind)


def _plain(value: Any, hint: Any) -> Any:  # noqa: ANN401
    """A value as JSON holds it; an integer given for a float becomes one, so that 1 and 1.0 are the same cell."""
    if isinstance(value, tuple):
        return [_required_and_changed(item) if dataclasses.is_dataclass(item) else item for item in value]
    is_float = hint is float or float in typing.get_args(hint)
    return float(value) if is_float and isinstance(value, int) else value


def _required_and_changed(item: Any) -> dict[str, Any]:  # noqa: ANN401
    """An item of a tuple (a Phase), for which there is no default to differ from."""
    hints = typing.get_type_hints(type(item))
    values = {entry.name: (getattr(item, entry.name), entry.default) for entry in dataclasses.fields(item)}
    return {name: _plain(mine, hints[name]) for name, (mine, usual) in values.items() if mine != usual}


def _rebuild(kind: type, content: Mapping[str, Any]) -> Any:  # noqa: ANN401
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise InputError.of(kind.__name__, ", ".join(unknown), f"this version knows {', '.join(hints)}")
    return kind(**{name: _value(hints[name], item) for name, item in content.items()})


def _value(hint: Any, item: Any) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(hint) and isinstance(item, dict):
        return _rebuild(typing.cast("type", hint), item)
    if isinstance(item, list):
        inner = _tuple_item(hint)
        return tuple(_value(inner, part) for part in item)
    return item


def _tuple_item(hint: Any) -> Any:  # noqa: ANN401
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    return next(typing.get_args(option)[0] for option in options if typing.get_origin(option) is tuple)
