"""Class labels of data sets, or of a file."""

from pathlib import Path

from mobileone_core.errors import InputError, require

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def class_labels(data: str, classes: int, file: Path | None = None) -> tuple[str, ...]:
    """One label per class, from a file with one per line, else the data set's.

    ImageNet uses two names twice (crane, maillot): the second class of each carries its number. Raises InputError.
    """
    if file is not None:
        require(file.is_file(), "labels", str(file), "an existing file")
        labels = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        require(len(labels) == classes, "labels", f"{file} ({len(labels)} labels)", f"one per class: {classes}")
        return labels
    labels = _data_labels(data)
    if len(labels) != classes:
        raise InputError(
            f"labels: those of {classes} classes of {data} are not known; give --labels FILE, one per line"
        )
    return labels


def _data_labels(data: str) -> tuple[str, ...]:
    if data == "digits":
        return tuple(str(digit) for digit in range(10))
    if data == "cifar10":
        return CIFAR10
    if data != "imagenet":
        return ()
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    first = {label: number for number, label in reversed(list(enumerate(CATEGORIES)))}
    return tuple(label if first[label] == number else f"{label} ({number})" for number, label in enumerate(CATEGORIES))
