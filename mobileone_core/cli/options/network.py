"""Which network a command takes, that of a finished run or of a weight file; `mobileone export` and `predict`."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from mobileone_core.cli.options.workspace import CommandOptions, RecordOptions
from mobileone_core.coreml.options import Precision
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require, require_choice, require_integer
from mobileone_core.model.spec import Activation, BlockMethod, ModelSpec

SUFFIXES = {"coreml": ".mlpackage", "onnx": ".onnx"}


@dataclass(frozen=True)
class Network:
    """Fields of the network that differ from the variant."""

    k: int | None = None  # Branches per block.
    stem_k: int | None = None  # Branches of the first block.
    reparam: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: on)")] = True
    """The branches of training; without them one conv-BN per block, and k = 1."""
    block_method: BlockMethod | None = None  # Branches of a block.
    activation: Activation | None = None  # Activation of every block.
    se: Literal["none", "paper", "all"] | tuple[int, ...] | None = None
    """Squeeze-and-excitation: none, paper (S4's placement), all or blocks at the end of each stage."""
    widths: tuple[int, ...] | None = None  # Output channels of each stage.
    depths: tuple[int, ...] | None = None  # Blocks of each stage.
    stem_stride: int | None = None  # Stride of the first block.
    stage_strides: tuple[int, ...] | None = None  # Stride of each stage's first block.

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
    # Data set whose normalization, channels and class names a weight file's network has; what the file says, else
    # imagenet, if not given.
    data: str = ""
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


@dataclass(frozen=True)
class Export(NetworkOptions):
    """Write a network in deployed form as Core ML or ONNX, once the written program is verified against torch.

    The network is that of a finished run (--run ID) or of a weight file (--variant s0 --weights FILE), in any layout
    and form. The output appears whole, and only if it is right.
    """

    _: KW_ONLY
    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # NAME.mlpackage (a directory) or NAME.onnx.
    format: Literal["coreml", "onnx"] | None = None  # What the output's name says, if not given.
    precision: Precision | None = None
    """Precision of weights and results; float16 for Core ML and float32 for ONNX if not given."""
    # tensor: normalized numbers in, logits out, nothing added. image (Core ML): pixels in, label and probabilities
    # out, normalization inside.
    input: Literal["tensor", "image"] = "tensor"
    labels: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Class labels in the order of the outputs, one per line; those of the run, or of the data set, if not given."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels; the run's, or the data set's, if not given."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None  # ONNX: a fixed batch; any if not given.
    nms: bool = False
    """ONNX, detectors: non-maximum suppression inside; one image per call, detections out."""
    quantize: Literal["int8"] | None = None
    """int8: weights and activations in ONNX, with a scale per output channel; weights alone in Core ML."""
    # With --quantize: a directory of images in train/CLASS and val/CLASS, or a data set by name, with its directory
    # if it has one. Ranges are measured on training images, top-1 before and after on up to 500 test images.
    calibration: Annotated[str, tyro.conf.arg(metavar="DIR|DATA|DATA=DIR")] = ""
    calibration_images: int = 128  # Training images that ranges of activations are measured on.
    author: str = ""  # Author, for the file's metadata.
    license: str = ""  # Licence of the weights, for the file's metadata.
    description: str = ""  # Description, for the file's metadata; network, data set and run if not given.
    force: bool = False  # Replace an output that exists.

    @property
    def chosen_precision(self) -> Precision:
        """The precision, or the format's default."""
        return self.precision or ("float16" if self.chosen_format == "coreml" else "float32")

    @property
    def chosen_format(self) -> str:
        """The format, or the one whose names end as the output's does; empty if none does."""
        named = (name for name, suffix in SUFFIXES.items() if suffix == self.output.suffix)
        return self.format or next(named, "")

    @property
    def manifest(self) -> Path:
        """The manifest of an ONNX file, next to it."""
        return self.output.with_name(f"{self.output.name}.json")

    def check(self) -> None:
        """Raise InputError for options that exclude each other, an output that exists, and a missing weight file."""
        allowed = SUFFIXES[self.format] if self.format else " or ".join(SUFFIXES.values())
        fits = bool(self.chosen_format) and self.output.suffix == SUFFIXES[self.chosen_format]
        require(fits, "output", str(self.output), f"a name that ends in {allowed}")
        is_coreml = self.chosen_format == "coreml"
        require(self.output.absolute().parent.is_dir(), "output", str(self.output), "in a directory that exists")
        for path in (self.output,) if is_coreml else (self.output, self.manifest):
            require(self.force or not path.exists(), "output", str(path), "it exists; --force replaces it")
        fits = self.output.is_dir() == is_coreml or not self.output.exists()
        require(fits, "output", str(self.output), "a package is a directory, an ONNX file is none")
        require(is_coreml or self.input == "tensor", "input", self.input, "tensor for ONNX")
        require(not (is_coreml and self.batch_size), "batch_size", self.batch_size, "for ONNX; Core ML takes one image")
        require(not (is_coreml and self.nms), "nms", self.nms, "for ONNX; Core ML's manifest describes it")
        require(not self.nms or self.batch_size in (None, 1), "batch_size", self.batch_size, "1 with --nms")
        if self.quantize:
            require(bool(self.calibration), "calibration", self.calibration, "a directory or data set with --quantize")
            require(self.batch_size is None, "batch_size", self.batch_size, "left out with --quantize: any batch")
            fits = is_coreml or self.chosen_precision == "float32"
            require(fits, "precision", self.precision, "float32 with --quantize for ONNX: what is not int8")
        else:
            require(not self.calibration, "calibration", self.calibration, "for --quantize int8")
        require_integer("calibration_images", self.calibration_images)
        for name in ("image_size", "batch_size"):
            if getattr(self, name) is not None:
                require_integer(name, getattr(self, name))
        require(self.labels is None or self.labels.is_file(), "labels", str(self.labels), "an existing file")
        super().check()


@dataclass(frozen=True)
class Predict(NetworkOptions):
    """Print what a network sees in pictures: the most probable classes, objects with their boxes, or shares of classes.

    The network is that of a finished run (--run ID) or of a weight file (--weights FILE --variant s0). Pictures are
    turned as their EXIF orientation says, then read as in the run's evaluation. Detectors draw boxes, segmenters masks
    into copies of the pictures.
    """

    images: tyro.conf.Positional[tuple[Path, ...]] = ()  # Image files, and directories of them.
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR|FILE")] = None
    """Directory of the copies, NAME-predicted.png (predictions/ if not given), or the file of a single one."""
    score_threshold: Annotated[float, tyro.conf.arg(metavar="SCORE")] = 0.5  # Smallest score of an object.
    top: Annotated[int, tyro.conf.arg(metavar="N")] = 5  # Classes per picture, of a classifier.
    json: bool = False  # One JSON object per line.

    def check(self) -> None:
        """Raise InputError for options that exclude each other and a missing file."""
        require(bool(self.images), "images", (), "image files, or directories of them")
        require_integer("top", self.top)
        require(0 <= self.score_threshold <= 1, "score_threshold", self.score_threshold, "from 0 to 1")
        super().check()
