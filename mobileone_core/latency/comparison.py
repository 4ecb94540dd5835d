"""A measurement of latencies side by side in one exclusive process: what is timed, and what came out. No torch here."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.latency.protocol import Protocol

SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema

Plain = str | int | float | bool | tuple[int, ...]


@dataclass(frozen=True)
class LatencyArm:
    """One cell of a comparison, with its levels by factor. reference is the label of the arm its ratio refers to."""

    label: str
    factors: Mapping[str, Plain]
    cell: LatencyCell
    reference: str


@dataclass(frozen=True)
class LatencySpec:
    """What is timed side by side. An arm that others refer to refers to itself. Raises InputError."""

    arms: tuple[LatencyArm, ...]
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        labels = [arm.label for arm in self.arms]
        require(len(set(labels)) == len(labels) >= 1, "arms", labels, "one or more labels, each once")
        own = {arm.label for arm in self.arms if arm.reference == arm.label}
        for arm in self.arms:
            require(arm.reference in own, "reference", arm.reference, f"one of {', '.join(sorted(own)) or 'none'}")

    @property
    def kind(self) -> Literal["latency"]:
        return "latency"

    @property
    def key(self) -> str:
        """The comparison's name: a hash of its canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it back. A protocol's defaults are left out."""
        content = {
            "schema": SCHEMA,
            "kind": self.kind,
            "arms": [_plain_arm(arm) for arm in self.arms],
            "protocol": changed_fields(self.protocol),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "LatencySpec":
        """Read a comparison; InputError where another version wrote it."""
        content = json.loads(text)
        schema = content.get("schema")
        require(schema == SCHEMA, "schema", schema, f"this version reads comparisons of schema {SCHEMA}")
        try:
            return cls(tuple(_arm(item) for item in content["arms"]), Protocol(**content["protocol"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"comparison: written by another version ({error})") from error


@dataclass(frozen=True)
class ArmResult:
    """One arm of a comparison, or one form of it. metrics: milliseconds, bytes, counts and ratios by name; samples:
    every time of a call by the call's name, rounds of bursts in milliseconds. tags: what else the record is to say.

    unmeasured says why there are no times: what a runtime answered that cannot take the network.
    """

    label: str
    factors: Mapping[str, Plain]
    form: str
    metrics: Mapping[str, float]
    samples: Mapping[str, list[list[float]]]
    tags: Mapping[str, str] = field(default_factory=dict)
    unmeasured: str = ""


def changed_fields(protocol: Protocol) -> dict[str, Any]:
    """A protocol's fields that are not the defaults."""
    usual = Protocol()
    fields = {item.name: getattr(protocol, item.name) for item in dataclasses.fields(protocol)}
    return {name: value for name, value in fields.items() if value != getattr(usual, name)}


def plain_levels(factors: Mapping[str, Any]) -> dict[str, Plain]:
    """Levels by factor, JSON's lists as tuples."""
    return {name: tuple(level) if isinstance(level, list) else level for name, level in factors.items()}


def _plain_arm(arm: LatencyArm) -> dict[str, Any]:
    fields = {item.name: getattr(arm, item.name) for item in dataclasses.fields(arm)}
    return {**fields, "factors": dict(arm.factors), "cell": arm.cell.to_plain()}


def _arm(item: Mapping[str, Any]) -> LatencyArm:
    cell = LatencyCell.from_plain(item["cell"])
    return LatencyArm(item["label"], plain_levels(item["factors"]), cell, item["reference"])
