"""The data sets that can be asked for by name, as data. No numpy, no torch here."""

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataSet:
    """A data set by name: mean and std are those of pixels in [0, 1], a channel each, test images apart.

    classes is 0 where the folder says how many. directory is what torchvision downloads to, under the data root;
    empty where it downloads nothing.
    """

    channels: int
    classes: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_memory: bool
    directory: str = ""
    val_fraction: float = 0.1


DATA_SETS: dict[str, DataSet] = {
    # Of the scans at 32 px: the bilinear resizing lowers the std.
    "digits": DataSet(1, 10, 32, (0.3053,), (0.3235,), in_memory=True),
    "cifar10": DataSet(
        3, 10, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), in_memory=True, directory="cifar-10-batches-py"
    ),
    "cifar100": DataSet(
        3, 100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), in_memory=True, directory="cifar-100-python"
    ),
    "imagenette": DataSet(3, 10, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False, directory="imagenette2"),
    # Validation is 1 % of ImageNet's train split, as in big_vision's "minival".
    "imagenet": DataSet(3, 1000, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False, val_fraction=0.01),
    "folder": DataSet(3, 0, 224, IMAGENET_MEAN, IMAGENET_STD, in_memory=False),
}
