"""A training step that is measured, as data: a network, how its blocks train, the batch and the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from mobileone_core.errors import refusing, require, require_integer
from mobileone_core.fields import check_options, option
from mobileone_core.model.spec import BlockExecution, ModelSpec
from mobileone_core.training.recipe import Precision

StepPath = Literal[BlockExecution, "timm"]
StepDevice = Literal["cpu", "cuda"]
TIMM = ("s0", "s1", "s2", "s3", "s4")  # variants that timm has, as mobileone_<variant>
PART = "step"  # prefix of a cell's fields in a factor: step.k


@dataclass(frozen=True)
class StepCell:
    """One training step of a variant with k branches per block, on a batch of random images. Raises InputError."""

    variant: str = option("s0", "Network: s0 to s4 as published; tiny and small, ours, for laptops.")
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
    device: StepDevice = option("cpu", "Device of a step: cpu, or the first CUDA device.")
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
        changed = {name: value for name, value in vars(self).items() if value != getattr(StepCell, name)}
        return {"kind": PART, **changed}

    @classmethod
    @refusing("step cell: written by another version")
    def from_dict(cls, content: dict[str, Any]) -> "StepCell":
        """Read a dictionary of to_dict. Raises InputError if another version wrote it."""
        return cls(**{name: value for name, value in content.items() if name != "kind"})
