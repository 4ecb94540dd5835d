"""Class labels of the data sets that have their own, or of a file."""

from pathlib import Path

from mobileone_core.errors import InputError, require

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def class_labels(data: str, classes: int, file: Path | None = None) -> tuple[str, ...]:
    """One label a class, from a file with one a line or as the data set has them.

    ImageNet names two of its classes twice (crane, maillot): the second carries its number. Raises InputError.
    """
    if file is not None:
        require(file.is_file(), "labels", str(file), "an existing file")
        labels = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        require(len(labels) == classes, "labels", f"{file} ({len(labels)} labels)", f"one a class: {classes}")
        return labels
    known = _known(data)
    if len(known) != classes:
        raise InputError(f"labels: those of {classes} classes of {data} are not known; give --labels FILE, one a line")
    return known


def _known(data: str) -> tuple[str, ...]:
    if data == "digits":
        return tuple(str(digit) for digit in range(10))
    if data == "cifar10":
        return CIFAR10
    if data != "imagenet":
        return ()
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    seen: set[str] = set()
    named = []
    for number, label in enumerate(CATEGORIES):
        named.append(f"{label} ({number})" if label in seen else label)
        seen.add(label)
    return tuple(named)
