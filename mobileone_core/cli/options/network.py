"""Which network a command takes: that of a finished run, or of a weight file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from mobileone_core.cli.options.workspace import CommandOptions, RecordOptions
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.model.spec import Activation, BlockMethod, ModelSpec


@dataclass(frozen=True)
class Network:
    """Fields of the network that differ from the variant."""

    k: int | None = None  # Branches per block.
    stem_k: int | None = None  # Branches of the first block.
    reparam: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: on)")] = True
    """The branches of training; without them one conv-BN per block, and k = 1."""
    block_method: BlockMethod | None = None  # Branches of a block.
    activation: Activation | None = None
    se: Literal["none", "paper", "all"] | tuple[int, ...] | None = None
    """Squeeze-and-excitation: none, paper (S4's placement), all or blocks at the end of each stage."""
    widths: tuple[int, ...] | None = None
    depths: tuple[int, ...] | None = None
    stem_stride: int | None = None
    stage_strides: tuple[int, ...] | None = None

    def spec(self, variant: str, channels: int, image_size: int) -> ModelSpec:
        """The network of a variant for images of this size, with these fields. Raises InputError."""
        return ModelSpec.preset(variant, in_channels=channels).fitted_to(image_size).changed(**self.changes)

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that were given, as keyword arguments of ModelSpec.changed."""
        return {name: value for name, value in vars(self).items() if value != getattr(Network, name)}


@dataclass(frozen=True)
class NetworkOptions(CommandOptions):
    """The network of a finished run, or of a weight file."""

    of_run: ClassVar[tuple[str, ...]] = ("variant", "weights", "data")  # what a run determines

    run: Annotated[str, tyro.conf.arg(metavar="ID")] = ""  # A finished run of the record: its id, or how it begins.
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights, if no run is given: .safetensors, or what torch.save wrote."""
    which: Annotated[str, tyro.conf.arg(metavar="auto|ema|model|NAME")] = "auto"
    """Which weights: averaged ones if there are any (auto), ema, model (not averaged), or a set's name in a file."""
    variant: str = ""
    """Network of the weight file: s0 to s4 as published; micro, tiny and small, ours. Not needed for a run's file."""
    data: str = ""
    """Data set whose normalization, channels and class names a weight file's network has; what the file says, else
    imagenet, if not given."""
    network: Network = field(default_factory=Network)
    storage: RecordOptions = field(default_factory=RecordOptions)

    @property
    def data_name(self) -> str:
        """The data set, or imagenet."""
        return self.data or "imagenet"

    def check(self) -> None:
        """Raise InputError for options that a run determines, and a missing or unknown weight file or network."""
        if self.run:
            given = [name for name in self.of_run if getattr(self, name)]
            require(not given, "run", self.run, f"a run determines its {', '.join(given)}: leave it out")
            require(not self.network.changes, "run", self.run, "a run determines its network: leave its fields out")
            require_choice("which", self.which, ("auto", "ema", "model"))
            return
        if self.weights is None:
            raise InputError("weights: give --run ID, or --weights FILE")
        require(self.weights.is_file(), "weights", str(self.weights), "an existing file")
        require_choice("data", self.data_name, DATA_SETS)
        if self.variant and ":" not in self.variant:  # the name of a library's network
            ModelSpec.preset(self.variant, in_channels=3).changed(**self.network.changes)
