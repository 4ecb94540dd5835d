"""Opens a data set's splits. The test set never changes; a carved validation set depends on the cell's seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobileone_core.data.augment import resize
from mobileone_core.data.catalog import check_root
from mobileone_core.data.digits import load_scans
from mobileone_core.data.download import prepare_data
from mobileone_core.data.folders import ImageFiles, fingerprint, read_folder, read_test
from mobileone_core.data.known import DATA_SETS
from mobileone_core.data.memory import ImageTensor
from mobileone_core.data.spec import DataSpec
from mobileone_core.data.splits import carve
from mobileone_core.errors import InputError, require

Source = ImageTensor | ImageFiles

DIGITS_TEST_FRACTION = 0.25
DIGITS_TEST_SEED = 0


@dataclass(frozen=True)
class Splits:
    """Training and validation images; test opens the test set, which is read once, at the end."""

    train: Source
    val: Source
    test: Callable[[], Source]


def open_splits(spec: DataSpec, root: Path | None, seed: int) -> Splits:
    """The splits of a data set for one seed.

    Digits: a fixed stratified quarter is the test set. CIFAR: torchvision's test split. Folders: test/ where there is
    one, else val/. Validation is val/ where it is not the test set, else val_fraction of every class of train.
    Raises InputError where the data are missing, broken or another folder than the spec's.
    """
    require(spec.name in DATA_SETS, "data", spec.name, f"one of {', '.join(DATA_SETS)}")
    prepare_data(spec.name, root)
    if spec.name == "digits":
        return _open_digits(spec, seed)
    root = check_root(spec.name, root)
    if DATA_SETS[spec.name].in_memory:
        train, val = _carved(_open_cifar(spec, root, train=True), spec, seed)
        return Splits(train, val, lambda: _open_cifar(spec, root, train=False))
    return _open_folder(spec, root / DATA_SETS[spec.name].directory, seed)


def open_test_set(spec: DataSpec, root: Path | None) -> Source:
    """The test set of open_splits, which is the same for every seed; folders need no train/ beside it.

    spec is resolved with test_only. Raises InputError as open_splits does.
    """
    require(spec.name in DATA_SETS, "data", spec.name, f"one of {', '.join(DATA_SETS)}")
    if DATA_SETS[spec.name].in_memory:
        return open_splits(spec, root, 0).test()
    prepare_data(spec.name, root, test_only=True)
    directory = check_root(spec.name, root) / DATA_SETS[spec.name].directory
    splits = read_test(directory)
    _check_planned(spec, directory, splits)
    [(split, files)] = splits.items()
    allowed = f"{spec.num_classes} folders of classes in its {split}/"
    require(int(files.labels[-1]) + 1 == spec.num_classes, "data_root", str(directory), allowed)
    return files


def _open_digits(spec: DataSpec, seed: int) -> Splits:
    scans, labels = load_scans()
    rest, test = carve(np.asarray(labels), DIGITS_TEST_FRACTION, DIGITS_TEST_SEED, "digits test")
    every = ImageTensor(_scaled(scans, spec.image_size), labels)
    train, val = _carved(every.subset(rest), spec, seed)
    return Splits(train, val, lambda: every.subset(test))


def _open_cifar(spec: DataSpec, root: Path, *, train: bool) -> ImageTensor:
    from torchvision import datasets  # takes a second

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[spec.name]
    try:
        loaded = kind(root, train=train)
    except RuntimeError as error:  # a file is missing or has another checksum
        raise InputError(f"data_root: {root / kind.base_folder} is incomplete or broken; remove it") from error
    images = torch.from_numpy(loaded.data).permute(0, 3, 1, 2)
    return ImageTensor(_scaled(images, spec.image_size), torch.tensor(loaded.targets))


def _open_folder(spec: DataSpec, root: Path, seed: int) -> Splits:
    splits = read_folder(root)
    _check_planned(spec, root, splits)
    if "val" in splits and "test" in splits:
        return Splits(splits["train"], splits["val"], lambda: splits["test"])
    train, val = _carved(splits["train"], spec, seed)
    return Splits(train, val, lambda: splits["test" if "test" in splits else "val"])


def _check_planned(spec: DataSpec, root: Path, splits: Mapping[str, ImageFiles]) -> None:
    if spec.fingerprint and fingerprint(splits) != spec.fingerprint:
        raise InputError(f"data_root: {root} is not the folder that was planned: its names or sizes have changed")


def _carved(data: Source, spec: DataSpec, seed: int) -> tuple[Source, Source]:
    train, val = carve(np.asarray(data.labels), spec.val_fraction, seed, "validation")
    return data.subset(train), data.subset(val)


def _scaled(images: Tensor, size: int) -> Tensor:
    """uint8 (N, C, S, S) to (N, C, size, size), bilinear."""
    if images.shape[-1] == size:
        return images.contiguous()
    return resize(images.float(), size).round().clamp(0, 255).to(torch.uint8)
