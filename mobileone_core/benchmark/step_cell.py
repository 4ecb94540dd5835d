"""A training step that is measured, as data: a network, how its blocks train, batch and place. No torch here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import BlockExecution, ModelSpec
from mobileone_core.training.recipe import Precision

StepPath = Literal[BlockExecution, "timm"]
StepDevice = Literal["cpu", "cuda"]
TIMM = ("s0", "s1", "s2", "s3", "s4")  # its mobileone_<variant>
PART = "step"  # what a factor calls a cell's fields by: step.k


@dataclass(frozen=True)
class StepCell:
    """One training step of a variant with k branches a block, on a batch of random images.

    path: every branch by itself, all folded into one convolution, the faster of both block by block (model/folded), or
    timm's network of that name, which computes every branch. Raises InputError.
    """

    variant: str = "s0"
    k: int = 1
    path: StepPath = "branches"
    batch_size: int = 8
    image_size: int = 224
    num_classes: int = 1000
    threads: int = 2
    device: StepDevice = "cpu"
    precision: Precision = "32"
    channels_last: bool = False
    compile: bool = False

    time_metric, ratio_metric, control_metric = "time/step", "time/step_ratio", "control/step_ratio"
    runtime_name = "torch"

    def __post_init__(self) -> None:
        for name, choices in (("path", StepPath), ("device", StepDevice), ("precision", Precision)):
            known = get_args(choices)
            require(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")
        for name in ("batch_size", "image_size", "num_classes", "threads"):
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(fits, name, value, "an integer of 1 or more")
        for name in ("channels_last", "compile"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        pixels = math.ceil(self.image_size / self.model.reduction) ** 2
        allowed = f"2 or more where {self.image_size} px leave one pixel in the last map: BN needs two values"
        require(self.batch_size * pixels > 1, "batch_size", self.batch_size, allowed)

    @property
    def model(self) -> ModelSpec:
        """The network."""
        return ModelSpec.preset(self.variant, k=self.k)

    @property
    def gap(self) -> str:
        """Why no library has the network; empty where it can be built."""
        if self.path != "timm":
            return ""
        if self.variant not in TIMM:
            return f"timm has {', '.join(TIMM)}, and not {self.variant}"
        own = ModelSpec.preset(self.variant).k
        return "" if self.k == own else f"timm has mobileone_{self.variant} with k = {own} alone"

    @property
    def parts(self) -> Mapping[str, Any]:
        """What options and factors name the fields of, by its name."""
        return {PART: self}

    @property
    def size_words(self) -> str:
        """The network's and the batch's size: s0, 224 px, batch 8."""
        return f"{self.variant}, {self.image_size} px, batch {self.batch_size}"

    def changed(self, changes: Mapping[str, Any]) -> "StepCell":
        """This cell with other fields, by names such as step.k."""
        known = [f"{PART}.{item.name}" for item in fields(self)]
        strange = sorted(set(changes) - set(known))
        require(not strange, "field", ", ".join(strange), f"one of {', '.join(known)}")
        return replace(self, **{name.removeprefix(f"{PART}."): value for name, value in changes.items()})

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it: the fields that are not the defaults; from_plain reads it back."""
        changed = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"kind": PART, **{name: value for name, value in changed.items() if value != getattr(StepCell, name)}}

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "StepCell":
        """Raises InputError where another version wrote it."""
        try:
            return cls(**{name: value for name, value in content.items() if name != "kind"})
        except TypeError as error:
            raise InputError(f"step cell: written by another version ({error})") from error
