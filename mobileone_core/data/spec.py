"""Data sets as data: those that have a name, and which images a cell reads."""

from dataclasses import dataclass

from mobileone_core.errors import require, require_integer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataSet:
    """A data set by name: its number of channels and classes, resolution (pixels) and normalization.

    mean and std, one value per channel, are those of training pixels in [0, 1]. classes is 0 if the image folder
    decides. directory is where torchvision puts its download, below the data root; empty if there is no download.
    class_names are in the order of the labels; empty if folders name the classes. With upright, EXIF orientation turns
    images; torchvision and the published results of ImageNet ignore it.
    """

    channels: int
    classes: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_memory: bool
    directory: str = ""
    val_fraction: float = 0.1
    class_names: tuple[str, ...] = ()
    upright: bool = False


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DATA_SETS: dict[str, DataSet] = {
    # Measured on the scans resized to 32 px: bilinear resizing lowers the standard deviation.
    "digits": DataSet(1, 10, 32, (0.3053,), (0.3235,), in_memory=True, class_names=tuple("0123456789")),
    "cifar10": DataSet(
        3,
        10,
        32,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        in_memory=True,
        directory="cifar-10-batches-py",
        class_names=_CIFAR10,
    ),
    "cifar100": DataSet(
        3, 100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), in_memory=True, directory="cifar-100-python"
    ),
    "imagenette": DataSet(3, 10, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False, directory="imagenette2"),
    # Validation is 1 % of ImageNet's train split, as in big_vision's "minival".
    "imagenet": DataSet(3, 1000, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False, val_fraction=0.01),
    "folder": DataSet(3, 0, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False, upright=True),
}


@dataclass(frozen=True)
class DataSpec:
    """The images of a cell: a data set by name, the resolution to read it at, and the validation split.

    image_size is in pixels. val_fraction is the share of every class of the training images that becomes validation.
    fingerprint identifies the content of an image folder; it is empty for named data sets. Raises InputError.
    """

    name: str = "digits"
    image_size: int = 32
    num_classes: int = 10
    channels: int = 1
    val_fraction: float = 0.1
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("image_size", "num_classes", "channels"):
            require_integer(name, getattr(self, name))
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "a fraction between 0 and 1")
