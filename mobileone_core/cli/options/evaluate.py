"""Options of `mobileone evaluate`: the accuracy of a checkpoint, as a recorded run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from mobileone_core.cli.options.network import NetworkOptions
from mobileone_core.cli.options.workspace import Directory
from mobileone_core.data.catalog import check_root, resolve_data
from mobileone_core.data.spec import DATA_SETS, EVAL_CROP, DataSpec
from mobileone_core.errors import InputError, require, require_choice, require_integer
from mobileone_core.training.execution import Execution
from mobileone_core.training.model_card import read_card
from mobileone_core.training.recipe import Precision
from mobileone_core.training.tasks import task_spec

CLASSIFICATION = "classification"


@dataclass(frozen=True)
class Images:
    """How images are read."""

    # The centre crop's share of the resized shorter side. timm's settings of the released weights: 0.875 for s0, 0.9
    # for s1 to s4, all bilinear at 224 px. Digits and CIFAR are read whole.
    crop: float = EVAL_CROP
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"  # Interpolation of the resizing.
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels; the run's or its file's, else the data set's, if not given: 224 for ImageNet and image folders."""
    # If the data set has train/ and val/ alone, as ImageNet does, val/ is the test set, which needs no train/, and
    # val is carved from train/.
    split: Literal["test", "val"] = "test"


@dataclass(frozen=True)
class Evaluate(NetworkOptions):
    """Measure a run's network or a checkpoint, recorded as a run of the experiment `evaluate`.

    Classifiers have top-1 and top-5, detectors COCO's average precisions, segmenters the mean IoU. A run (--run ID)
    names network, weights, data set and preprocessing. A weight file (--weights FILE --variant s0 --data imagenet) may
    hold this package's, the authors', timm's or mmpretrain's names, in train or deployed form; it may be a training
    program's checkpoint or a cell's last.ckpt. A run's weight file needs no more.
    Averaged weights are preferred; a line says which were read. Folders of classes are matched by name with the
    network's classes, and with ImageNet's by WordNet id, name or number; if some are missing, the accuracy among those
    present is measured, too.
    """

    of_run: ClassVar[tuple[str, ...]] = ("variant", "weights", "task", "recipe")

    task: str = ""
    """What a weight file's network was trained for: classification, detection or segmentation."""
    recipe: str = ""  # Recipe whose head a detector or segmenter has; the data set's if not given.
    data: str = ""
    """Data set: digits, cifar10, imagenet, folder, coco, voc, masks and so on; the run's or file's if not given."""
    data_root: Directory = None  # Directory that holds the data set; the run's if not given.
    # Instead of --data: a published test set of ImageNet's classes, whose folders are WordNet ids. A and R are
    # decided among their 200 classes. C (CORRUPTION/SEVERITY/CLASS/IMAGE) gives the mean corruption error, relative
    # to AlexNet's, if all of its 15 corruptions and 5 severities are there; its images are read whole.
    robustness: Literal["imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-c"] | None = None
    # Lines FOLDER,CLASS for folders whose names are not those of the network's classes: a name, number or WordNet id.
    class_map: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    form: Literal["file", "train", "deployed"] = "file"
    """The form that is evaluated: the file's, or the deployed one, into which a train form is folded."""
    images: Images = Images()
    batch_size: int = 128  # Images per batch.
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Threads of the network, and processes that decode; torch's default if not given."""
    device: str = "auto"  # auto, cpu, cuda or cuda:N.
    precision: Precision = "32"  # Arithmetic of the network.
    channels_last: bool = False  # Channels-last memory format, on a GPU.

    def check(self) -> None:
        """Raise InputError for a missing file, unknown data, and options that machine, data or network refuse."""
        Execution(self.device, 1 if self.threads is None else self.threads)
        require_integer("image_size", 1 if self.images.image_size is None else self.images.image_size)
        require(self.class_map is None or self.class_map.is_file(), "class_map", str(self.class_map), "a file")
        super().check()
        if self.robustness:
            crop = EVAL_CROP if self.robustness == "imagenet-c" else self.images.crop  # whose images are read whole
            decided = {"data": (self.data, ""), "class_map": (self.class_map, None), "crop": (self.images.crop, crop)}
            for name, (value, default) in {**decided, "split": (self.images.split, "test")}.items():
                require(value == default, name, str(value), f"--robustness {self.robustness} decides it: leave it out")
            check_root(self.robustness, self.data_root)
        if self.run:
            return
        is_classifier = self.task in ("", CLASSIFICATION)
        require(is_classifier or not self.robustness, "robustness", self.robustness, "for classifiers")
        allowed = "none for classification" if is_classifier else "with --variant, which describes the file's network"
        require(not self.recipe or bool(self.variant and not is_classifier), "recipe", self.recipe, allowed)
        is_described = not is_classifier or bool(self.weights and read_card(self.weights))  # as those of our runs
        if not ((self.data or self.robustness) if self.variant else is_described):
            raise InputError("evaluate: give --run ID, or --weights FILE --variant s0 --data NAME (or --robustness)")
        data = self.resolved(self.data, self.data_root) if self.data else None
        if is_classifier and data and self.variant:
            self.network.spec(self.variant, data.channels, data.image_size)

    def resolved(self, name: str, root: Path | None, image_size: int | None = None, **named: Any) -> DataSpec:
        """The data set by name, by default at this resolution; named as for resolve_data. Raises InputError."""
        named = {"test_only": self.images.split == "test", "task": self.task or CLASSIFICATION, **named}
        require_choice("data", name, task_spec(named["task"]).data_sets)
        data = resolve_data(name, root, self.images.image_size or image_size, **named)
        is_whole = DATA_SETS[name].in_memory
        for option, is_unread in (("crop", is_whole or named["task"] != CLASSIFICATION), ("interpolation", is_whole)):
            value, usual = getattr(self.images, option), getattr(Images(), option)
            require(not is_unread or value == usual, option, value, f"{name} is read whole: leave it out")
        return data
