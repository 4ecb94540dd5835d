"""Options of `mobileone evaluate`: the accuracy of a checkpoint, as a recorded run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mobileone_core.cli.options.workspace import CommandOptions, Directory, RecordOptions
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.spec import DATA_SETS, EVAL_CROP, DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import Activation, ModelSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Precision


@dataclass(frozen=True)
class Network:
    """Fields of the network that differ from the variant."""

    k: int | None = None  # Branches per block.
    stem_k: int | None = None  # Branches of the first block.
    reparam: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: on)")] = True
    """The branches of training; without them one conv-BN per block, and k = 1."""
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
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in given.items() if (name, value) != ("reparam", True)}


@dataclass(frozen=True)
class Images:
    """How images are read."""

    crop: float = EVAL_CROP
    """The centre crop's share of the resized shorter side. timm's settings of the released weights: 0.875 for s0,
    0.9 for s1 to s4, all bilinear at 224 px. Digits and CIFAR are read whole."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"  # Interpolation of the resizing.
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels; the data set's if not given, 224 for ImageNet and image folders."""
    split: Literal["test", "val"] = "test"
    """If the data set has train/ and val/ alone, as ImageNet does, val/ is the test set, which needs no train/, and val
    is carved from train/."""


@dataclass(frozen=True)
class Evaluate(CommandOptions):
    """Measure top-1 and top-5 of a run's network or a checkpoint, recorded as a run of the experiment `evaluate`.

    A run (--run ID) names network, weights, data set and preprocessing. A weight file (--weights FILE --variant s0
    --data imagenet) may hold this package's, the authors', timm's or mmpretrain's names, in train or deployed form; it
    may be a training program's checkpoint or a cell's last.ckpt. Averaged weights are preferred; a line says which were
    read. Folders of classes are matched by name with the network's classes, and with ImageNet's by WordNet id, name or
    number; if some are missing, the accuracy among those present is measured, too.
    """

    run: Annotated[str, tyro.conf.arg(metavar="ID")] = ""  # A finished run: its id, or how it begins.
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights: .safetensors, or what torch.save wrote."""
    variant: str = ""  # Network of the weight file: s0 to s4 as published; tiny and small, ours.
    data: str = ""
    """Data set: digits (embedded), cifar10, cifar100, imagenette, imagenet or folder; the run's if not given."""
    data_root: Directory = None  # Directory that holds the data set; the run's if not given.
    class_map: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Lines FOLDER,CLASS for folders whose names are not those of the network's classes: a name, number or WordNet
    id."""
    which: Annotated[str, tyro.conf.arg(metavar="auto|ema|model|NAME")] = "auto"
    """Which of a file's sets of weights: the averaged ones if it has any (auto), or ema, model or a set's name."""
    form: Literal["file", "train", "deployed"] = "file"
    """The form that is evaluated: the file's, or the deployed one, into which a train form is folded."""
    network: Network = Network()
    images: Images = Images()
    batch_size: int = 128
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Threads of the network, and processes that decode; torch's default if not given."""
    device: str = "auto"  # auto, cpu, cuda or cuda:N.
    precision: Precision = "32"
    channels_last: bool = False  # Channels-last memory format, on a GPU.
    storage: RecordOptions = field(default_factory=RecordOptions)

    def check(self) -> None:
        """Raise InputError for a missing file, unknown data, and options that machine, data or network refuse."""
        Execution(self.device, 1 if self.threads is None else self.threads)
        require(self.class_map is None or self.class_map.is_file(), "class_map", str(self.class_map), "a file")
        if self.run:
            refuse_with_run(self.run, self.network, variant=self.variant, weights=self.weights, which=self.which)
            return
        if self.weights is None or not self.variant or not self.data:
            raise InputError("evaluate: give --run ID, or --weights FILE --variant s0 --data NAME")
        require(self.weights.is_file(), "weights", str(self.weights), "an existing file")
        data = self.resolved(self.data, self.data_root)
        self.network.spec(self.variant, data.channels, data.image_size)

    def resolved(
        self, name: str, root: Path | None, image_size: int | None = None, classes: Sequence[str] = ()
    ) -> DataSpec:
        """The data set by name, by default at this resolution. Raises InputError."""
        test_only, size = self.images.split == "test", self.images.image_size or image_size
        data = resolve_data(name, root, size, test_only=test_only, classes=classes)
        for option in ("crop", "interpolation"):
            value = getattr(self.images, option)
            is_read = not DATA_SETS[name].in_memory or value == getattr(Images(), option)
            require(is_read, option, value, f"{name} is read whole: leave it out")
        return data


def refuse_with_run(run: str, network: Network, **options: object) -> None:
    """Raise InputError for options that a run determines."""
    given = [name for name, value in options.items() if value and value != "auto"]
    require(not given, "run", run, f"a run determines its {', '.join(given)}: leave it out")
    require(not network.changes, "run", run, "a run determines its network: leave its fields out")
