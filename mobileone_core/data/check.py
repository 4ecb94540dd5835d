"""A data set as it was understood: classes, splits, what is left out, and the files that cannot be read."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mobileone_core.data import folders
from mobileone_core.data.catalog import check_root
from mobileone_core.data.folders import ImageFiles, class_folders
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, listed
from mobileone_core.texts import visible

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

AT_ONCE = 1024  # images that wait for a thread


class FileFacts(NamedTuple):
    """Facts about an image file: its split, Pillow's mode and size in pixels, or why it cannot be read.

    path and digest, a hash of its pixels, are empty where equal images are not looked for.
    """

    split: str
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    error: str = ""
    path: str = ""
    digest: bytes = b""


def read_splits(name: str, root: Path | None, complain: folders.Complain = folders.refuse) -> dict[str, ImageFiles]:
    """List the splits of image files, or the test set alone if there is no train/; complain is read_folder's."""
    directory, upright = check_root(name, root) / DATA_SETS[name].directory, DATA_SETS[name].upright
    read = folders.read_folder if class_folders(folders.split_folder(directory, "train")) else folders.read_test
    splits = read(directory, upright=upright, complain=complain)
    folders.require_carvable(splits, complain)
    return splits


def short_lines(splits: Mapping[str, ImageFiles]) -> list[str]:
    """Say in one or two lines what splits hold, without reading an image."""
    uses = {"train": "training", "val": "validation" if "test" in splits else "test", "test": "test"}
    if "train" in splits and len(splits) == 2:
        uses["train"] += " and validation, carved"
    parts = [f"{files.directory.name}/ {len(files)} ({uses[split]})" for split, files in splits.items()]
    [*_, last] = splits.values()
    roots = set() if splits.keys() == {"test"} else {last.directory.parent}
    others = [root / name for root in roots for name in class_folders(root)]
    left = [f"{path.name}/" for path in others if path not in {files.directory for files in splits.values()}]
    counts = sum((Counter(files.left_out) for files in splits.values()), Counter[str]())
    left += [f"{count} {kind}" for kind, count in sorted(counts.items())]
    lines = [f"data        {len(last.classes)} classes: {listed([*map(repr, last.classes)])}; {', '.join(parts)}"]
    return [*lines, f"left out    {', '.join(left)}"] if left else lines


def read_images(splits: Mapping[str, ImageFiles]) -> Iterator[FileFacts]:
    """Read every image, by several threads, in the order of the splits."""
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for split, files in splits.items():
            for start in range(0, len(files), AT_ONCE):
                indices = range(start, min(start + AT_ONCE, len(files)))
                yield from pool.map(partial(_read, split, files), indices)


def report_lines(labels: "Mapping[str, ArrayLike]", classes: Sequence[str], facts: Sequence[FileFacts]) -> list[str]:
    """List images per class, modes, sizes, and files that cannot be read; labels are those of each split's images."""
    import numpy as np

    counts = {split: np.bincount(np.asarray(numbers), minlength=len(classes)) for split, numbers in labels.items()}
    lines = ["label " + "".join(f"{split:>9}" for split in labels) + "  class"]
    for label, name in enumerate(classes):
        shown = visible(name).replace("\n", "\\n")
        lines.append(f"{label:>5} " + "".join(f"{count[label]:>9}" for count in counts.values()) + f"  {shown}")
    for split in labels:
        modes = Counter(item.mode for item in facts if item.split == split and item.mode)
        lines.append(f"{split + ' modes':<12}" + ", ".join(f"{count} {mode}" for mode, count in modes.most_common()))
    sizes = np.array([item.size for item in facts if item.mode]).reshape(-1, 2)
    for name, values in zip(("width", "height"), sizes.T if len(sizes) else (), strict=False):
        lines.append(f"{name:<12}{values.min()} to {values.max()} pixels, median {np.median(values):g}")
    lines += _repeated(facts)
    errors = [f"  {item.error}" for item in facts if item.error]
    return [*lines, f"unreadable  {len(errors)} of {len(facts)} images", *errors]


def _repeated(facts: Sequence[FileFacts]) -> Iterator[str]:
    """A line for every split with images that an earlier split has, too, pixel by pixel."""
    first: dict[bytes, str] = {}
    for split in dict.fromkeys(item.split for item in facts):
        mine = [item for item in facts if item.split == split and item.digest]
        for other in dict.fromkeys(first.values()):
            if twice := [visible(item.path) for item in mine if first.get(item.digest) == other]:
                yield f"repeated    {len(twice)} images of {split} are in {other}, too: {listed(twice)}"
        first |= {item.digest: split for item in mine if item.digest not in first}


def _read(split: str, files: ImageFiles, index: int) -> FileFacts:
    from PIL import Image  # takes time

    path = files.path(index)
    try:
        pixels, _ = files.read(index)
        digest = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).digest()
        with Image.open(path) as image:
            return FileFacts(split, image.mode, pixels.size, path=str(path), digest=digest)
    except InputError as error:
        return FileFacts(split, error=str(error))
