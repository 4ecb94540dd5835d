"""Benchmarks as data: a training step, entries timed side by side, the protocol, and the key of a spec."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.errors import refusing, require, require_choice, require_integer
from mobileone_core.fields import as_tuples, check_options, option
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.model.spec import BlockExecution, ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Precision

SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema

Level = str | int | float | bool | tuple[int, ...]
Cell = TypeVar("Cell")
StepPath = Literal[BlockExecution, "timm"]
TIMM = ("s0", "s1", "s2", "s3", "s4")  # variants that timm has, as mobileone_<variant>
PART = "step"  # prefix of a cell's fields in a factor: step.k


@dataclass(frozen=True)
class StepCell:
    """One training step of a variant with k branches per block, on a batch of random images. Raises InputError."""

    variant: str = option("s0", "Network: s0 to s4 as published; micro, tiny and small, ours, for laptops.")
    k: int = option(1, "Parallel conv-BN branches per block, 1 to 16.")
    path: StepPath = option(
        "branches",
        "branches, one by one; folded, into one convolution per block; auto, the faster of both per block; timm, its "
        "network of that name: s0 to s4 with their published k.",
    )
    batch_size: int = option(8, "Images per step.", require_integer)
    image_size: int = option(224, "Pixels per side of an image.", require_integer)
    num_classes: int = option(1000, "Classes.", require_integer)
    threads: int = option(2, "Threads per step, on a CPU.", require_integer)
    device: Literal["cpu", "cuda"] = option("cpu", "Device of a step: cpu, or the first CUDA device.")
    precision: Precision = option("32", "Arithmetic of a step.")
    channels_last: bool = option(False, "Channels-last memory format; only on a GPU.")
    compile: bool = option(False, "Compile the network with torch.compile.")

    time_metric, ratio_metric, control_metric = "time/step", "time/step_ratio", "control/step_ratio"
    runtime_name = "torch"

    def __post_init__(self) -> None:
        check_options(self)
        pixels = math.ceil(self.image_size / self.model.reduction) ** 2
        allowed = f"2 or more where {self.image_size} px leave one pixel in the last map: BN needs two values"
        require(self.batch_size * pixels > 1, "batch_size", self.batch_size, allowed)

    @property
    def model(self) -> ModelSpec:
        """The variant with k branches."""
        return ModelSpec.preset(self.variant, k=self.k)

    @property
    def gap(self) -> str:
        """Why no library provides the network; empty if it can be built."""
        if self.path != "timm":
            return ""
        if self.variant not in TIMM:
            return f"timm has {', '.join(TIMM)}, and not {self.variant}"
        published_k = ModelSpec.preset(self.variant).k
        return "" if self.k == published_k else f"timm has mobileone_{self.variant} with k = {published_k} alone"

    @property
    def parts(self) -> Mapping[str, Any]:
        """The parts whose fields options and factors name, by the part's name."""
        return {PART: self}

    @property
    def size_text(self) -> str:
        """Network, image size and batch size, as text: s0, 224 px, batch 8."""
        return f"{self.variant}, {self.image_size} px, batch {self.batch_size}"

    def changed(self, changes: Mapping[str, Any]) -> "StepCell":
        """A copy with other fields, named as in step.k. Raises InputError."""
        names = [f"{PART}.{item.name}" for item in fields(self)]
        unknown = sorted(set(changes) - set(names))
        require(not unknown, "field", ", ".join(unknown), f"one of {', '.join(names)}")
        return replace(self, **{name.removeprefix(f"{PART}."): value for name, value in changes.items()})

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON with the fields that differ from the defaults; from_dict reads it back."""
        return {"kind": PART, **changed_fields(self)}

    @classmethod
    @refusing("step cell: written by another version")
    def from_dict(cls, content: dict[str, Any]) -> "StepCell":
        """Read a dictionary of to_dict. Raises InputError if another version wrote it."""
        return cls(**{name: value for name, value in content.items() if name != "kind"})


@dataclass(frozen=True)
class Entry(Generic[Cell]):
    """One cell of a benchmark, with its level per factor. reference is the label of the entry its ratio refers to."""

    label: str
    factors: Mapping[str, Level]
    cell: Cell
    reference: str


@dataclass(frozen=True)
class EntryResult:
    """Measurements of an entry, or of one form of it: train or deployed.

    metrics: milliseconds, bytes, counts and ratios by name. samples: every time of a call by the call's name, as
    rounds of bursts in milliseconds. tags: how it ran. unmeasured: why there are no times; empty otherwise.
    """

    label: str
    factors: Mapping[str, Level]
    form: str
    metrics: Mapping[str, float]
    samples: Mapping[str, list[list[float]]]
    tags: Mapping[str, str] = field(default_factory=dict)
    unmeasured: str = ""


@dataclass(frozen=True)
class BenchmarkSpec(Generic[Cell]):
    """Entries measured side by side by one protocol; one that others refer to refers to itself. Raises InputError."""

    kind: ClassVar[str]  # of what is measured, in JSON
    cell_type: ClassVar[type[LatencyCell] | type[StepCell]]

    entries: tuple[Entry[Cell], ...]
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.entries]
        require(len(set(labels)) == len(labels) >= 1, "entries", labels, "one or more labels, each once")
        references = {entry.label for entry in self.entries if entry.reference == entry.label}
        for entry in self.entries:
            require_choice("reference", entry.reference, sorted(references))

    @property
    def key(self) -> str:
        """The benchmark's name: a hash of its canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The canonical text that the key hashes; read_spec reads it back. A protocol's defaults are left out."""
        content = {"schema": SCHEMA, "kind": self.kind, "protocol": changed_fields(self.protocol), **self._arms()}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def _arms(self) -> dict[str, Any]:
        """The entries as JSON takes them."""
        return {"arms": [{**vars(entry), "cell": entry.cell.to_dict()} for entry in self.entries]}  # type: ignore[attr-defined]

    @classmethod
    def _entries(cls, arms: list[dict[str, Any]]) -> tuple[Entry[Cell], ...]:
        """The entries of _arms."""
        read = cls.cell_type.from_dict
        return tuple(Entry(**{**arm, "factors": as_tuples(arm["factors"]), "cell": read(arm["cell"])}) for arm in arms)


class LatencySpec(BenchmarkSpec[LatencyCell]):
    """Latencies of networks in their runtimes."""

    kind = "latency"
    cell_type = LatencyCell


class StepSpec(BenchmarkSpec[StepCell]):
    """Training steps. Every call does the same work, so that nothing is reloaded or trimmed. Raises InputError."""

    kind = "step"
    cell_type = StepCell

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.protocol.reload, "reload", True, "a training step is not opened anew; False")
        require(not self.protocol.trim, "trim", self.protocol.trim, "the times of steps are not trimmed; 0")


class FormsSpec(BenchmarkSpec[CellSpec]):
    """Training steps and inferences of cells' networks in both forms; all refer to one baseline. Raises InputError."""

    kind = "forms"

    def __post_init__(self) -> None:
        super().__post_init__()
        references = {entry.reference for entry in self.entries}
        require(len(references) == 1, "reference", sorted(references), "one for all entries")

    def _arms(self) -> dict[str, Any]:
        cells = [(entry, json.loads(entry.cell.to_json())) for entry in self.entries]
        arms = [{"label": entry.label, "factors": entry.factors, "spec": cell} for entry, cell in cells]
        return {"arms": arms, "baseline": self.entries[0].reference}

    @classmethod
    def _entries(cls, arms: list[dict[str, Any]], baseline: str = "") -> tuple[Entry[CellSpec], ...]:
        return tuple(
            Entry(arm["label"], as_tuples(arm["factors"]), CellSpec.from_json(json.dumps(arm["spec"])), baseline)
            for arm in arms
        )


class DeployedSpec(FormsSpec):
    """Latencies of cells' whole deployed networks; all refer to one baseline. Raises InputError."""

    kind = "deployed"


AnySpec = LatencySpec | StepSpec | FormsSpec
SPECS: Mapping[str, type[AnySpec]] = {kind.kind: kind for kind in (LatencySpec, StepSpec, FormsSpec, DeployedSpec)}


@refusing("comparison: written by another version")
def read_spec(text: str) -> AnySpec:
    """A benchmark of any kind from the text of to_json. Raises InputError where another version wrote it."""
    content: dict[str, Any] = json.loads(text)
    kind, schema = content.pop("kind", None), content.pop("schema", None)
    require(kind in SPECS, "kind", kind, f"this version measures {', '.join(SPECS)}")
    require(schema == SCHEMA, "schema", schema, f"this version reads comparisons of schema {SCHEMA}")
    protocol, spec_type = Protocol(**content.pop("protocol")), SPECS[kind]
    return spec_type(spec_type._entries(**content), protocol)  # type: ignore[arg-type]


def changed_fields(item: Protocol | StepCell) -> dict[str, Any]:
    """The fields of a protocol or a step that are not the defaults."""
    return {name: value for name, value in vars(item).items() if value != getattr(type(item), name)}
