"""Splits of a data set: the test set is fixed, a carved validation set depends on the cell's seed.

Sets that torchvision knows by name are read into memory.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobileone_core.data.augment import resize
from mobileone_core.data.catalog import check_root
from mobileone_core.data.download import prepare_data, read_file
from mobileone_core.data.folders import ImageFiles, fingerprint, read_folder, read_test, require_carvable
from mobileone_core.data.memory import ImageTensor
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.spec import DATA_SETS, IDX_FILES, DataSpec, carved_images
from mobileone_core.errors import InputError, require, require_choice

BROKEN = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, EOFError, OSError)
Images = ImageTensor | ImageFiles
Files = dict[str, ImageFiles]  # by split
Indices = NDArray[np.int64]

DIGITS_TEST_FRACTION = 0.25
DIGITS_TEST_SEED = 0


class Splits(NamedTuple):
    """Training and validation images, and a function that opens the test set, which is read once, at the end."""

    train: Images
    val: Images
    test: Callable[[], Images]


def open_splits(spec: DataSpec, root: Path | None, seed: int) -> Splits:
    """Open the training, validation and test images of a data set for one seed.

    The test set is a fixed stratified quarter of digits, torchvision's test split of a set that it reads, and test/ of
    an image folder, or its val/ if there is no test/. Validation is val/ if that is not the test set, else
    val_fraction of every class of the training images. root is the data root. Raises InputError if the data are
    missing or broken, or if an image folder differs from the spec's fingerprint.
    """
    require_choice("data", spec.name, DATA_SETS)
    prepare_data(spec.name, root)
    if DATA_SETS[spec.name].in_memory:
        train, val = _carved(_open_in_memory(spec, root, train=True), spec, seed)
        return Splits(train, val, lambda: _open_in_memory(spec, root, train=False))
    splits = _read_planned(spec, root, read_folder)
    require_carvable(splits)
    *_, test = splits.values()  # val if there is no test
    train, val = _carved(splits["train"], spec, seed) if len(splits) == 2 else (splits["train"], splits["val"])
    return Splits(train, val, lambda: test)


def open_test_set(spec: DataSpec, root: Path | None, classes: Sequence[str] = ()) -> Images:
    """Open the test set alone, the same as open_splits gives for every seed; an image folder needs no train/.

    spec comes from resolve_data(..., test_only=True), and classes are as there. Raises InputError as open_splits does.
    """
    require_choice("data", spec.name, DATA_SETS)
    prepare_data(spec.name, root, test_only=True)
    if DATA_SETS[spec.name].in_memory:
        return _open_in_memory(spec, root, train=False)
    [files] = _read_planned(spec, root, partial(read_test, classes=classes)).values()
    return files


@lru_cache(maxsize=1)
def load_scans() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: 1,797 real scans, uint8 (1797, 1, 8, 8), and labels, int64 (1797,)."""
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    scans = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)  # stored as 0 to 16
    return scans.unsqueeze(1), torch.from_numpy(digits.target).long()


def carve(labels: Indices, fraction: float, seed: int, purpose: str) -> tuple[Indices, Indices]:
    """Split indices by class: return those that stay and those carved out, each sorted.

    labels is (N,). Of every class the number nearest to fraction is carved out, at least one image. seed and purpose
    choose the images. Raises InputError if a class has a single image.
    """
    # RandomState: its stream is the same in every version of numpy (NEP 19), so a split is too.
    random = np.random.RandomState(derive_seed(seed, purpose) % 2**32)
    carved = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        allowed = "two or more, so that a split can take one"
        require(len(members) > 1, f"images of class {label}", len(members), allowed)
        carved[random.permutation(members)[: carved_images(len(members), fraction)]] = True
    return np.flatnonzero(~carved), np.flatnonzero(carved)


def _open_in_memory(spec: DataSpec, root: Path | None, *, train: bool) -> ImageTensor:
    """The training or the test images of digits, or of a set that torchvision reads, resized (bilinear)."""
    if spec.name == "digits":
        images, labels = load_scans()
        rest, test = carve(np.asarray(labels), DIGITS_TEST_FRACTION, DIGITS_TEST_SEED, "digits test")
        images, labels = (item[rest if train else test] for item in (images, labels))
    else:
        images, labels = read_named(spec.name, check_root(spec.name, root), train=train)
    if images.shape[-1] != spec.image_size:
        images = resize(images.float(), spec.image_size).round().clamp(0, 255).to(torch.uint8)
    return ImageTensor(images.contiguous(), labels)


def _read_planned(spec: DataSpec, root: Path | None, read: Callable[..., Files]) -> Files:
    """Read the splits of image files. Raises InputError if they are not the spec's by fingerprint and classes."""
    directory = check_root(spec.name, root) / DATA_SETS[spec.name].directory
    splits = read(directory, upright=DATA_SETS[spec.name].upright)
    if spec.fingerprint and fingerprint(splits) != spec.fingerprint:
        raise InputError(f"data_root: {directory} is not the folder that was planned: its names or sizes have changed")
    *_, (split, last) = splits.items()
    allowed = f"{spec.num_classes} folders of classes in its {split}/"
    require(len(last.classes) == spec.num_classes, "data_root", str(directory), allowed)
    return splits


def _carved(data: Images, spec: DataSpec, seed: int) -> tuple[Images, Images]:
    train, val = carve(np.asarray(data.labels), spec.val_fraction, seed, "validation")
    return data.subset(train), data.subset(val)


def read_named(name: str, root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Read one split of a data set that has a reader: images, uint8 (N, C, S, S), and labels, int64 (N,).

    The files lie below root as torchvision puts them; those of MNIST, Fashion-MNIST and KMNIST may also lie in root
    itself. Checksums are verified. Raises InputError for missing or broken files.
    """
    from torchvision import datasets  # takes a second

    entry = DATA_SETS[name]
    kind, arguments = getattr(datasets, entry.reader), entry.train if train else entry.test
    try:
        with ExitStack() as stack:
            source = root
            if entry.files == IDX_FILES:  # verified, they lie unpacked where torchvision looks for them
                source = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                raw = source / kind.__name__ / "raw"
                raw.mkdir(parents=True)
                for file in IDX_FILES:
                    (raw / file.removesuffix(".gz")).write_bytes(read_file(name, root, file))
            images, labels = _as_tensors(kind(source, **arguments))
    except InputError:
        raise
    except BROKEN as error:  # a file is missing, cut short, or has another checksum
        raise InputError(f"data_root: {root / entry.directory} is incomplete or broken; remove it") from error
    where, largest = f"data_root: {root}, {name}", int(labels.max())
    require(len(images) == len(labels), where, f"{len(images)} images, {len(labels)} labels", "one label per image")
    require(largest < entry.classes, where, f"label {largest}", f"labels from 0 to {entry.classes - 1}")
    return (images.mT if entry.transposed else images).contiguous(), labels


def _as_tensors(loaded: Any) -> tuple[Tensor, Tensor]:
    """The images, uint8 (N, C, H, W), and labels of a data set of torchvision, whatever the layout of its pixels."""
    images = torch.as_tensor(loaded.data)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = loaded.targets if hasattr(loaded, "targets") else loaded.labels
    return images, torch.as_tensor(np.asarray(labels)).long()
