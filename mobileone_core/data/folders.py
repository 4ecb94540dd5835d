"""Image folders in the layout of torchvision's ImageFolder: split/class/image; what hides is no class and no image."""

import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError, listed, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
# Left behind by macOS, Windows, NAS systems and Python; names that begin with a dot are hidden, too.
HIDDEN = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "__pycache__", "thumbs.db", "desktop.ini"}
LAYOUT = "train/CLASS/IMAGE and val/CLASS/IMAGE, or test/ instead of val/ or in addition"
LAYOUT_TEST = "test/CLASS/IMAGE, val/CLASS/IMAGE or CLASS/IMAGE"

Complain = Callable[[str], None]  # gets a fault of the layout


def refuse(fault: str) -> None:
    """Raise InputError for a fault of an image folder."""
    raise InputError(f"data_root: {fault}")


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split: paths relative to directory, labels, and file sizes in bytes, each (N,).

    Arrays, because a million Python strings would be copied in every forked worker that touches them. classes are the
    names in label order, left_out counts what is no image by kind. With upright, EXIF orientation turns images.
    """

    directory: Path
    names: "NDArray[np.bytes_]"
    labels: "NDArray[np.int64]"
    sizes: "NDArray[np.int64]"
    classes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    upright: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the path of one image."""
        return self.directory / os.fsdecode(bytes(self.names[index]))

    def read(self, index: int) -> "tuple[Image, int]":
        """Read an image and its label. Raises InputError."""
        from mobileone_core.data.images import decode  # Pillow takes time

        return decode(self.path(index), upright=self.upright), int(self.labels[index])

    def subset(self, indices: "NDArray[np.int64]") -> "ImageFiles":
        """Return the images at indices, in that order."""
        return replace(self, names=self.names[indices], labels=self.labels[indices], sizes=self.sizes[indices])

    def require_content(self) -> None:
        """Raise InputError for the first file of 0 bytes."""
        for index in (self.sizes == 0).nonzero()[0]:
            refuse(f"{self.path(index)} is not a readable image (0 bytes; `mobileone data check` lists all such files)")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is of the system or an editor, such as .ipynb_checkpoints or __MACOSX."""
    return name.startswith(".") or name.lower() in HIDDEN


def in_label_order(names: Iterable[str]) -> list[str]:
    """Sort names of classes: as numbers if all are whole numbers, else as text."""
    ordered = sorted(names)
    return sorted(ordered, key=int) if all(re.fullmatch("-?[0-9]+", name) for name in ordered) else ordered


def plain_name(name: str) -> str:
    """A name without what look-alikes differ in: 007 and 7, Cat and cat, an accented letter as one character or two."""
    return re.sub("^0+(?=[0-9]+$)", "", unicodedata.normalize("NFC", name).casefold().strip())


def class_folders(directory: Path) -> list[str]:
    """Return the names of the folders in a directory in label order; none if the directory does not exist.

    Hidden folders and links to a folder around them are left out.
    """
    if not directory.is_dir():
        return []
    folders = [path for path in directory.iterdir() if os.path.isdir(path) and not is_hidden(path.name)]  # noqa: PTH112
    around = directory.resolve()
    links = {path for path in folders if path.is_symlink() and around.is_relative_to(path.resolve())}
    return in_label_order(path.name for path in folders if path not in links)


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split: one of SPLIT_NAMES in any case, such as Train or valid; root/split if none exists.

    Raises InputError if there are two.
    """
    names = [name for name in class_folders(root) if name.lower() in SPLIT_NAMES[split]]
    require(len(names) < 2, "data_root", str(root), f"one folder of {split} images, not both {' and '.join(names)}")
    return root / (names[0] if names else split)


def read_folder(root: Path, *, upright: bool = True, complain: Complain = refuse) -> dict[str, ImageFiles]:
    """Read the splits below root; labels number the classes of train/, sorted as numbers if all are, else as text.

    Raises InputError without a train/ of two or more classes, without val/ and test/, and by default for the first
    fault of a class. complain, if given, gets every such fault.
    """
    folders = {split: split_folder(root, split) for split in SPLITS}
    present = {split: folder for split, folder in folders.items() if class_folders(folder)}
    classes = class_folders(folders["train"])
    if len(classes) < 2 or len(present) < 2:
        refuse(f"{root} holds no image folder; expected {LAYOUT}, with two classes or more")
    if len({folder.resolve() for folder in present.values()}) < len(present):
        refuse(f"{root} holds one folder of images under two of its names {', '.join(present)}")
    return {name: _read_split(path, classes, upright=upright, complain=complain) for name, path in present.items()}


def require_carvable(splits: Mapping[str, ImageFiles], complain: Complain = refuse) -> None:
    """Complain of the classes of which validation cannot be carved, if it is, because of one image."""
    if "train" not in splits or len(splits) > 2:
        return
    train = splits["train"]
    single = [repr(train.classes[label]) for label, count in Counter(train.labels.tolist()).items() if count == 1]
    if single:
        needs = "validation is carved from it and needs two or more per class, or both val/ and test/"
        complain(f"{train.directory} holds one image of class {listed(single)}; {needs}")


def find_test(root: Path) -> tuple[str, Path]:
    """Return the test set's split and folder: test/ or val/, or the root of folders of classes without splits."""
    for split in ("test", "val"):
        if class_folders(folder := split_folder(root, split)):
            return split, folder
    is_whole = len(class_folders(root)) > 1 and not split_folder(root, "train").is_dir()
    return ("test", root) if is_whole else ("val", root / "val")


def root_classes(root: Path) -> list[str]:
    """Return the classes of train/ in label order, or those of the test set if there is no train/."""
    return class_folders(split_folder(root, "train")) or class_folders(find_test(root)[1])


def read_test(
    root: Path, classes: Sequence[str] = (), *, upright: bool = True, complain: Complain = refuse
) -> dict[str, ImageFiles]:
    """Read the test set alone; if train/ exists, both must have the same classes.

    classes, if given, are a network's classes in the order of its outputs: they decide the labels, and the test set may
    lack some of them. Raises InputError if the test set has fewer than two classes, or others than the network, and by
    default if it has others than train/, or a class without images; complain, if given, gets every such fault.
    """
    split, folder = find_test(root)
    names = class_folders(folder)
    if len(names) < 2:
        refuse(f"{root} holds no test images; expected {LAYOUT_TEST}, with two classes or more")
    if classes:
        unknown = [repr(name) for name in names if name not in set(classes)]
        allowed = f"one of the network's {len(classes)}"
        require(not unknown, "data_root", f"class {listed(unknown)} of {folder}", allowed)
        return {split: _read_split(folder, classes, names, upright=upright)}
    return {split: _read_split(folder, root_classes(root), upright=upright, complain=complain)}


def fingerprint(splits: Mapping[str, ImageFiles]) -> str:
    """Hash the sorted relative paths and sizes of all images, and an order of classes that is not that of text."""
    digest = hashlib.sha256()
    for split, files in splits.items():
        for name, size in sorted(zip(files.names.tolist(), files.sizes.tolist(), strict=True)):
            digest.update(b"%s/%s\0%d\n" % (split.encode(), name, size))
        classes = list(files.classes)
        if classes != sorted({os.fsdecode(name.partition(b"/")[0]) for name in files.names.tolist()}):
            digest.update(b"\0".join(map(os.fsencode, classes)))
    return digest.hexdigest()[:12]


def _read_split(
    directory: Path, classes: Sequence[str], present: Sequence[str] = (), *, upright: bool, complain: Complain = refuse
) -> ImageFiles:
    """Read the images of the classes present in a split; of all classes if that is empty."""
    names = dict.fromkeys(present or classes)
    different = sorted(names.keys() ^ set(class_folders(directory)))
    for name in different:
        lacking = directory if name in names else "train/"
        complain(f"{directory} and train/ differ in class {name!r}, which {lacking} lacks; both need the same")
    first: dict[str, str] = {}
    for name in names:
        twin = first.setdefault(plain_name(name), name)
        if twin != name:
            complain(f"{directory} holds classes {twin!a} and {name!a}; names must differ in more than case or zeros")
    rows: list[tuple[bytes, int, int]] = []
    loose = (path.name for path in directory.iterdir() if is_hidden(path.name) or not path.is_dir())
    left_out = Counter(_kind(name, nested=False) for name in loose)
    for label, name in enumerate(classes):
        if name not in names or name in different:
            continue
        images, others = _images(directory, name)
        left_out += others
        if not images:
            complain(f"{directory / name} holds no image ({', '.join(EXTENSIONS)})")
        rows += [(relative, label, size) for relative, size in images]
    import numpy as np  # planning a study imports this module, and needs no arrays

    paths, labels, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = np.array(paths, dtype=np.bytes_), np.array(labels, dtype=np.int64), np.array(sizes, dtype=np.int64)
    return ImageFiles(directory, *arrays, tuple(classes), dict(+left_out), upright)


def _images(directory: Path, name: str) -> tuple[list[tuple[bytes, int]], Counter[str]]:
    """List the images below one class folder in ImageFolder's order, each path relative to directory and size in bytes.

    Also count by kind what is left out. A link to a folder around it, or to one that was already read, is not followed.
    """
    start = (directory / name).resolve()
    read, images, left_out = {start}, list[tuple[str, str, bytes, int]](), Counter[str]()
    for folder, folders, files in os.walk(directory / name, onerror=_refuse_unreadable, followlinks=True):
        targets = {item: Path(folder, item).resolve() for item in sorted(folders) if not is_hidden(item)}
        left_out["hidden"] += len(folders) - len(targets)
        folders[:] = [item for item, path in targets.items() if path not in read and not start.is_relative_to(path)]
        read.update(targets.values())
        for file in files:
            if kind := _kind(file):
                left_out[kind] += 1
                continue
            path = os.path.join(folder, file)  # noqa: PTH118 - Path objects take seconds on ImageNet
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    _refuse_unreadable(error)
                left_out["link to nothing"] += 1
                continue
            if not stat.S_ISREG(status.st_mode):  # reading a pipe waits for ever
                left_out["pipe or device"] += 1
                continue
            images.append((folder, file, os.fsencode(os.path.relpath(path, directory)), status.st_size))
    return [(relative, size) for *_, relative, size in sorted(images)], left_out


def _refuse_unreadable(error: OSError) -> None:
    refuse(f"{error.filename} cannot be read ({error.strerror})")


def _kind(file: str, *, nested: bool = True) -> str:
    """Why a file is no image of a class; empty for an image in a class folder."""
    if is_hidden(file):
        return "hidden"
    if file.lower().endswith(EXTENSIONS):
        return "" if nested else "outside of class folders"
    return os.path.splitext(file)[1].lower() or "without extension"  # noqa: PTH122
