"""Folders of images as torchvision's ImageFolder reads them: split/class/image. No torch here."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileone_core.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
SPLITS = ("train", "val", "test")
LAYOUT = "train/CLASS/IMAGE and val/CLASS/IMAGE, or test/ in place of val/ or beside it"
LAYOUT_TEST = "test/CLASS/IMAGE or val/CLASS/IMAGE"


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split: names (N,) are bytes relative to directory, labels and sizes (bytes) are (N,).

    Arrays, because a million Python strings would grow in every forked worker that touches them.
    """

    directory: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Where one image lies."""
        return self.directory / os.fsdecode(bytes(self.names[index]))

    def subset(self, indices: NDArray[np.int64]) -> "ImageFiles":
        """Some of the images, in the order of the indices."""
        return ImageFiles(self.directory, self.names[indices], self.labels[indices], self.sizes[indices])


def class_folders(directory: Path) -> list[str]:
    """The sorted names of the folders in a directory; none where there is no such directory."""
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def read_folder(root: Path) -> dict[str, ImageFiles]:
    """The splits that lie under root, all with train's classes in sorted order.

    Raises InputError where there is no train/ with two classes, nothing to test on, or a class without images.
    """
    classes = class_folders(root / "train")
    present = [split for split in SPLITS if class_folders(root / split)]
    if len(classes) < 2 or len(present) < 2:
        raise InputError(f"data_root: {root} holds no image folder; expected {LAYOUT}, with two classes or more")
    return {split: _read_split(root / split, classes) for split in present}


def find_test(root: Path) -> str:
    """The split that is the test set: test where it has class folders, else val."""
    return "test" if class_folders(root / "test") else "val"


def read_test(root: Path) -> dict[str, ImageFiles]:
    """The test set alone: its own class folders name the classes, and train/ must have the same where it is there.

    Raises InputError where it has fewer than two classes, others than train/, or a class without images.
    """
    split = find_test(root)
    if len(class_folders(root / split)) < 2:
        raise InputError(f"data_root: {root} holds no test images; expected {LAYOUT_TEST}, with two classes or more")
    return {split: _read_split(root / split, class_folders(root / "train") or class_folders(root / split))}


def fingerprint(splits: Mapping[str, ImageFiles]) -> str:
    """What tells this folder's images from another's: a hash of their sorted relative names and sizes."""
    digest = hashlib.sha256()
    for split, files in splits.items():
        for name, size in sorted(zip(files.names.tolist(), files.sizes.tolist(), strict=True)):
            digest.update(b"%s/%s\0%d\n" % (split.encode(), name, size))
    return digest.hexdigest()[:12]


def _read_split(directory: Path, classes: list[str]) -> ImageFiles:
    different = sorted(set(classes) ^ set(class_folders(directory)))
    if different:
        raise InputError(f"data_root: {directory} and train/ differ in class {different[0]!r}; both need the same")
    found: list[tuple[bytes, int, int]] = []
    for label, name in enumerate(classes):
        images = _images(directory, name)
        if not images:
            raise InputError(f"data_root: {directory / name} holds no image ({', '.join(EXTENSIONS)})")
        found += [(relative, label, size) for relative, size in images]
    names, labels, sizes = zip(*found, strict=True)
    return ImageFiles(directory, np.array(names), np.array(labels, dtype=np.int64), np.array(sizes, dtype=np.int64))


def _images(directory: Path, name: str) -> list[tuple[bytes, int]]:
    """Images below one class folder, sorted as ImageFolder does: path relative to directory, size in bytes."""
    found = []
    for folder, _, files in sorted(os.walk(directory / name, followlinks=True)):
        for file in sorted(files):
            if file.lower().endswith(EXTENSIONS):
                path = os.path.join(folder, file)  # noqa: PTH118 - Path objects take seconds on ImageNet
                found.append((os.fsencode(os.path.relpath(path, directory)), os.stat(path).st_size))  # noqa: PTH116
    return found
