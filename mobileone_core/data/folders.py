"""Image folders in the layout of torchvision's ImageFolder: split/class/image."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
SPLITS = ("train", "val", "test")
LAYOUT = "train/CLASS/IMAGE and val/CLASS/IMAGE, or test/ instead of val/ or in addition"
LAYOUT_TEST = "test/CLASS/IMAGE or val/CLASS/IMAGE"


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split: paths relative to directory, labels, and file sizes in bytes, each (N,).

    Arrays, because a million Python strings would be copied in every forked worker that touches them.
    """

    directory: Path
    names: "NDArray[np.bytes_]"
    labels: "NDArray[np.int64]"
    sizes: "NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the path of one image."""
        return self.directory / os.fsdecode(bytes(self.names[index]))

    def subset(self, indices: "NDArray[np.int64]") -> "ImageFiles":
        """Return the images at indices, in that order."""
        return ImageFiles(self.directory, self.names[indices], self.labels[indices], self.sizes[indices])


def class_folders(directory: Path) -> list[str]:
    """Return the sorted names of the folders in a directory; none if the directory does not exist."""
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def read_folder(root: Path) -> dict[str, ImageFiles]:
    """Read the splits below root; labels number the classes of train/ in sorted order.

    Raises InputError without a train/ of two or more classes, without val/ and test/, or if a class has no images.
    """
    classes = class_folders(root / "train")
    present = [split for split in SPLITS if class_folders(root / split)]
    if len(classes) < 2 or len(present) < 2:
        raise InputError(f"data_root: {root} holds no image folder; expected {LAYOUT}, with two classes or more")
    return {split: _read_split(root / split, classes) for split in present}


def find_test(root: Path) -> str:
    """Return the name of the split that is the test set: test if it has class folders, else val."""
    return "test" if class_folders(root / "test") else "val"


def read_test(root: Path) -> dict[str, ImageFiles]:
    """Read the test set alone; if train/ exists, both must have the same classes.

    Raises InputError if it has fewer than two classes, other classes than train/, or a class without images.
    """
    split = find_test(root)
    if len(class_folders(root / split)) < 2:
        raise InputError(f"data_root: {root} holds no test images; expected {LAYOUT_TEST}, with two classes or more")
    return {split: _read_split(root / split, class_folders(root / "train") or class_folders(root / split))}


def fingerprint(splits: Mapping[str, ImageFiles]) -> str:
    """Hash the sorted relative paths and sizes of all images, to recognize an image folder."""
    digest = hashlib.sha256()
    for split, files in splits.items():
        for name, size in sorted(zip(files.names.tolist(), files.sizes.tolist(), strict=True)):
            digest.update(b"%s/%s\0%d\n" % (split.encode(), name, size))
    return digest.hexdigest()[:12]


def _read_split(directory: Path, classes: list[str]) -> ImageFiles:
    different = sorted(set(classes) ^ set(class_folders(directory)))
    if different:
        raise InputError(f"data_root: {directory} and train/ differ in class {different[0]!r}; both need the same")
    rows: list[tuple[bytes, int, int]] = []
    for label, name in enumerate(classes):
        images = _images(directory, name)
        if not images:
            raise InputError(f"data_root: {directory / name} holds no image ({', '.join(EXTENSIONS)})")
        rows += [(relative, label, size) for relative, size in images]
    import numpy as np  # planning a study imports this module, and needs no arrays

    names, labels, sizes = zip(*rows, strict=True)
    return ImageFiles(directory, np.array(names), np.array(labels, dtype=np.int64), np.array(sizes, dtype=np.int64))


def _images(directory: Path, name: str) -> list[tuple[bytes, int]]:
    """List the images below one class folder in ImageFolder's order: path relative to directory, size in bytes."""
    images = []
    for folder, _, files in sorted(os.walk(directory / name, followlinks=True)):
        for file in sorted(files):
            if file.lower().endswith(EXTENSIONS):
                path = os.path.join(folder, file)  # noqa: PTH118 - Path objects take seconds on ImageNet
                images.append((os.fsencode(os.path.relpath(path, directory)), os.stat(path).st_size))  # noqa: PTH116
    return images
