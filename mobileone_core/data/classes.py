"""Names of a data set's classes, in the order of its labels."""

from pathlib import Path

from mobileone_core.data.folders import class_folders, find_test
from mobileone_core.data.spec import DataSpec

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def class_names(spec: DataSpec, root: Path | None) -> tuple[str, ...]:
    """Class names in the order of labels; none if they are not known or root is not given."""
    if spec.name == "digits":
        return tuple("0123456789")
    if spec.name == "cifar10":
        return CIFAR10
    if spec.name == "imagenet":
        return _imagenet_names()
    if spec.name == "folder" and root is not None:
        return tuple(class_folders(root / "train") or class_folders(root / find_test(root)))
    return ()


def _imagenet_names() -> tuple[str, ...]:
    """ImageNet uses two names twice (crane, maillot): the second class of each carries its number."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    first = {label: number for number, label in reversed(list(enumerate(CATEGORIES)))}
    return tuple(label if first[label] == number else f"{label} ({number})" for number, label in enumerate(CATEGORIES))
