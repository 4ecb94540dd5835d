"""A measurement of networks side by side in one exclusive process: what is measured, and what came out. No torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mobileone_core.errors import InputError, require
from mobileone_core.latency.comparison import Plain, changed_fields, plain_levels
from mobileone_core.latency.protocol import Protocol
from mobileone_core.training.cell import CellSpec

SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema

Kind = Literal["forms"]
Form = Literal["train", "deployed"]


@dataclass(frozen=True)
class ComparisonArm:
    """One network of a comparison, with its levels by factor."""

    label: str
    factors: Mapping[str, Plain]
    spec: CellSpec


@dataclass(frozen=True)
class ComparisonSpec:
    """What is measured side by side: "forms" is every arm's train form and deployed form.

    baseline is the label of the arm that ratios refer to. Raises InputError.
    """

    kind: Kind = "forms"
    arms: tuple[ComparisonArm, ...] = ()
    baseline: str = ""
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        require(self.kind in get_args(Kind), "kind", self.kind, f"one of {', '.join(get_args(Kind))}")
        labels = [arm.label for arm in self.arms]
        require(len(set(labels)) == len(labels) >= 1, "arms", labels, "one or more labels, each once")
        require(self.baseline in labels, "baseline", self.baseline, f"one of {', '.join(labels)}")

    @property
    def key(self) -> str:
        """The comparison's name: a hash of its canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it back. A protocol's defaults are left out."""
        content = {
            "schema": SCHEMA,
            "kind": self.kind,
            "arms": [{**_fields(arm), "spec": json.loads(arm.spec.to_json())} for arm in self.arms],
            "baseline": self.baseline,
            "protocol": changed_fields(self.protocol),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ComparisonSpec":
        """Read a comparison; InputError where another version wrote it."""
        content = json.loads(text)
        schema = content.pop("schema", None)
        require(schema == SCHEMA, "schema", schema, f"this version reads comparisons of schema {SCHEMA}")
        try:
            arms = tuple(_arm(**item) for item in content.pop("arms"))
            return cls(arms=arms, protocol=Protocol(**content.pop("protocol")), **content)
        except (KeyError, TypeError) as error:
            raise InputError(f"comparison: written by another version ({error})") from error


def _fields(value: ComparisonArm) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


def _arm(label: str, factors: Mapping[str, Any], spec: Mapping[str, Any]) -> ComparisonArm:
    return ComparisonArm(label, plain_levels(factors), CellSpec.from_json(json.dumps(spec)))
