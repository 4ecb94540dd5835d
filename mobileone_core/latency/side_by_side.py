"""A measurement of cells side by side in one exclusive process, as data: arms, protocol, and its key. No torch here."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar
from typing import Protocol as Structure

from mobileone_core.errors import InputError, require
from mobileone_core.latency.protocol import Protocol

SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema

Plain = str | int | float | bool | tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    """What the record calls an arm's figures: its median time but for the unit, ratio to its reference, and the
    reference's ratio to its own twin. Ends of an interval add _low and _high."""

    time: str
    ratio: str
    control: str


class SideCell(Structure):
    """What an arm measures."""

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it."""

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> Self:
        """What to_plain gave; InputError where another version did."""


Cell = TypeVar("Cell", bound=SideCell)


@dataclass(frozen=True)
class Arm(Generic[Cell]):
    """One cell of a comparison, with its levels by factor. reference is the label of the arm its ratio refers to."""

    label: str
    factors: Mapping[str, Plain]
    cell: Cell
    reference: str


@dataclass(frozen=True)
class SideBySide(Generic[Cell]):
    """What is measured side by side; kind names what of it, and cell_type is what an arm holds.

    An arm that others refer to refers to itself. Raises InputError.
    """

    kind: ClassVar[str]
    cell_type: ClassVar[type[SideCell]]

    arms: tuple[Arm[Cell], ...]
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        require_labels([arm.label for arm in self.arms])
        own = {arm.label for arm in self.arms if arm.reference == arm.label}
        for arm in self.arms:
            require(arm.reference in own, "reference", arm.reference, f"one of {', '.join(sorted(own)) or 'none'}")

    @property
    def key(self) -> str:
        """The comparison's name: a hash of its canonical text."""
        return key_of(self.to_json())

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it back. A protocol's defaults are left out."""
        arms = [{**vars(arm), "factors": dict(arm.factors), "cell": arm.cell.to_plain()} for arm in self.arms]
        return canonical(self.kind, arms, self.protocol)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a comparison; InputError where another version wrote it."""
        content = content_of(text)
        with of_this_version():
            return cls(tuple(map(cls._arm, content["arms"])), Protocol(**content["protocol"]))

    @classmethod
    def _arm(cls, item: Mapping[str, Any]) -> Arm[Any]:
        cell = cls.cell_type.from_plain(item["cell"])
        return Arm(item["label"], plain_levels(item["factors"]), cell, item["reference"])


def canonical(kind: str, arms: Sequence[Mapping[str, Any]], protocol: Protocol, **more: str) -> str:
    """A comparison's text: the same for the same one."""
    content = {"schema": SCHEMA, "kind": kind, "arms": arms, "protocol": changed_fields(protocol), **more}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(text: str) -> str:
    """The name of a comparison with this text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def content_of(text: str) -> dict[str, Any]:
    """A comparison's text as data, without its schema; InputError for another one's."""
    content: dict[str, Any] = json.loads(text)
    schema = content.pop("schema", None)
    require(schema == SCHEMA, "schema", schema, f"this version reads comparisons of schema {SCHEMA}")
    return content


@contextlib.contextmanager
def of_this_version() -> Iterator[None]:
    """InputError where what is read inside has other fields."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise InputError(f"comparison: written by another version ({error})") from error


def require_labels(labels: Sequence[str]) -> None:
    """InputError unless there are labels, each once."""
    require(len(set(labels)) == len(labels) >= 1, "arms", list(labels), "one or more labels, each once")


def changed_fields(protocol: Protocol) -> dict[str, Any]:
    """A protocol's fields that are not the defaults."""
    usual = Protocol()
    return {name: value for name, value in vars(protocol).items() if value != getattr(usual, name)}


def plain_levels(factors: Mapping[str, Any]) -> dict[str, Plain]:
    """Levels by factor, JSON's lists as tuples."""
    return {name: tuple(level) if isinstance(level, list) else level for name, level in factors.items()}
