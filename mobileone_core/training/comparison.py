"""A measurement of networks side by side in one exclusive process: what is measured, and what came out. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mobileone_core.errors import require
from mobileone_core.latency.protocol import Protocol
from mobileone_core.latency.side_by_side import (
    Plain,
    canonical,
    content_of,
    key_of,
    of_this_version,
    plain_levels,
    require_labels,
)
from mobileone_core.training.cell import CellSpec

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
        require_labels(labels)
        require(self.baseline in labels, "baseline", self.baseline, f"one of {', '.join(labels)}")

    @property
    def key(self) -> str:
        """The comparison's name: a hash of its canonical text."""
        return key_of(self.to_json())

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it back. A protocol's defaults are left out."""
        arms = [{**vars(arm), "spec": json.loads(arm.spec.to_json())} for arm in self.arms]
        return canonical(self.kind, arms, self.protocol, baseline=self.baseline)

    @classmethod
    def from_json(cls, text: str) -> "ComparisonSpec":
        """Read a comparison; InputError where another version wrote it."""
        content = content_of(text)
        with of_this_version():
            arms = tuple(_arm(**item) for item in content.pop("arms"))
            return cls(arms=arms, protocol=Protocol(**content.pop("protocol")), **content)


def _arm(label: str, factors: Mapping[str, Any], spec: Mapping[str, Any]) -> ComparisonArm:
    return ComparisonArm(label, plain_levels(factors), CellSpec.from_json(json.dumps(spec)))
