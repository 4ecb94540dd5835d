"""Options of `mobileone export`: a network as a verified Core ML package or ONNX file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mobileone_core.cli.options.evaluate import Network
from mobileone_core.cli.options.workspace import CommandOptions, RecordOptions
from mobileone_core.coreml.options import Precision
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require, require_choice, require_integer
from mobileone_core.model.spec import ModelSpec

SUFFIXES = {"coreml": ".mlpackage", "onnx": ".onnx"}


@dataclass(frozen=True)
class Export(CommandOptions):
    """Write a network in deployed form as Core ML or ONNX, once the written program is verified against torch.

    The network is that of a finished run (--run ID) or of a weight file (--variant s0 --weights FILE), in any layout
    and form. The output appears whole, and only if it is right.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # NAME.mlpackage (a directory) or NAME.onnx.
    format: Literal["coreml", "onnx"] = "coreml"
    run: Annotated[str, tyro.conf.arg(metavar="ID")] = ""  # A finished run of the record, as mobileone status shows it.
    variant: str = ""  # Network of the weight file: s0 to s4 as published; tiny and small, ours.
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights: .safetensors, or what torch.save wrote."""
    which: Annotated[str, tyro.conf.arg(metavar="auto|ema|model|NAME")] = "auto"
    """Which of a weight file's sets: the averaged ones if it has any (auto), or ema, model or a set's name."""
    network: Network = field(default_factory=Network)
    precision: Precision | None = None
    """Precision of weights and results; float16 for Core ML and float32 for ONNX if not given."""
    input: Literal["tensor", "image"] = "tensor"
    """tensor: normalized numbers in, logits out, nothing added. image (Core ML): pixels in, label and probabilities
    out, normalization inside."""
    data: str = ""
    """Data set whose normalization, channels and labels a weight file's network has; imagenet if not given."""
    labels: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Class labels of an image input, one per line; not needed for imagenet, cifar10 and digits."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels; the run's, or the data set's, if not given."""
    force: bool = False  # Replace an output that exists.
    storage: RecordOptions = field(default_factory=RecordOptions)

    @property
    def chosen_precision(self) -> Precision:
        """The precision, or the format's default."""
        return self.precision or ("float16" if self.format == "coreml" else "float32")

    @property
    def data_name(self) -> str:
        """The data set, or imagenet."""
        return self.data or "imagenet"

    def check(self) -> None:
        """Raise InputError for options that exclude each other, an output that exists, and a missing weight file."""
        suffix = SUFFIXES[self.format]
        require(self.output.suffix == suffix, "output", str(self.output), f"a name that ends in {suffix}")
        require(self.output.absolute().parent.is_dir(), "output", str(self.output), "in a directory that exists")
        require(self.force or not self.output.exists(), "output", str(self.output), "it exists; --force replaces it")
        fits = self.output.is_dir() == (self.format == "coreml") or not self.output.exists()
        require(fits, "output", str(self.output), "a package is a directory, an ONNX file is none")
        if self.format == "onnx":
            require(self.chosen_precision == "float32", "precision", self.precision, "float32 for ONNX")
            require(self.input == "tensor", "input", self.input, "tensor for ONNX")
        if self.image_size is not None:
            require_integer("image_size", self.image_size)
        require(self.labels is None or self.input == "image", "labels", str(self.labels), "with --input image")
        if self.run:
            given = [name for name in ("variant", "weights", "data") if getattr(self, name)]
            require(not given, "run", self.run, f"a run determines its {', '.join(given)}: leave it out")
            require(not self.network.changes, "run", self.run, "a run determines its network: leave its fields out")
        elif self.weights is None or not self.variant:
            raise InputError("export: give --run ID, or --variant s0 --weights FILE")
        else:
            ModelSpec.preset(self.variant, in_channels=3).changed(**self.network.changes)
            require_choice("data", self.data_name, DATA_SETS)
            require(self.weights.is_file(), "weights", str(self.weights), "an existing file")
