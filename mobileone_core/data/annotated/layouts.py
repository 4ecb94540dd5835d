"""Where the files of a data set with boxes or masks lie below its root; reads no image and no annotation."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mobileone_core.data.folders import EXTENSIONS, SPLIT_NAMES, SPLITS, is_hidden, split_folder
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require
from mobileone_core.files import read_text, sha256

ANNOTATIONS = ("annotations/instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json")
LAYOUTS = {
    "coco": "train2017/, val2017/ and annotations/instances_train2017.json, annotations/instances_val2017.json",
    "boxes": "train/IMAGE and annotations/train.json, likewise val or test, or Roboflow's train/_annotations.coco.json",
    "masks": "classes.txt, train/images/NAME.jpg and train/masks/NAME.png, likewise val or test",
    "voc": "VOCdevkit/VOC2012, with the masks of the augmented list in its SegmentationClassAug/ or in SBD/cls/",
    "ade20k": "ADEChallengeData2016/images/training/, annotations/training/ and both with validation/",
}


class Source(NamedTuple):
    """An image file and the file of its mask, or a folder of images and the file of their annotations."""

    images: Path
    file: Path


def find_annotated(name: str, root: Path, *, test_only: bool = False) -> dict[str, Any]:
    """Find the splits of a data set with boxes, each a Source, or with masks, each a list of Source.

    Raises InputError without val or test, and unless test_only without train.
    """
    find = _find_boxes if "detection" in DATA_SETS[name].tasks else _find_masks
    found: dict[str, Any] = find(name, root)
    if not ({"val", "test"} & found.keys() and (test_only or "train" in found)):
        raise InputError(f"data_root: {root} holds no {name}; expected {LAYOUTS[name]}")
    return found


def _find_boxes(name: str, root: Path) -> dict[str, Source]:
    """The splits of coco or boxes."""
    found: dict[str, Source] = {}
    for split in SPLITS:
        for alias in (f"{alias}2017" if name == "coco" else alias for alias in SPLIT_NAMES[split]):
            files = [root / pattern.format(alias) for pattern in ANNOTATIONS]
            if file := next((file for file in files if file.is_file()), None):
                folder = root / "images" / alias
                found.setdefault(split, Source(folder if folder.is_dir() else root / alias, file))
    return found


def _find_masks(name: str, root: Path) -> dict[str, list[Source]]:
    """The splits of voc, ade20k or masks that have images."""
    if name == "voc":
        found = _find_voc(root)
    elif name == "ade20k":
        base = next((path for path in (root / "ADEChallengeData2016", root) if (path / "images").is_dir()), root)
        names = {"train": "training", "val": "validation"}
        found = {split: _pairs(base / "images" / part, base / "annotations" / part) for split, part in names.items()}
    else:
        folders = {split: split_folder(root, split) for split in SPLITS}
        found = {split: _pairs(folder / "images", folder / "masks") for split, folder in folders.items()}
    return {split: pairs for split, pairs in found.items() if pairs}


def fingerprint_of(files: Iterable[Path], root: Path) -> str:
    """Hash the paths below root and the content of JSON files, the sizes of others."""
    digest = hashlib.sha256()
    for file in sorted(files):
        require(file.is_file(), "data_root", str(file), "an existing file")
        content = sha256(file) if file.suffix == ".json" else file.stat().st_size
        digest.update(f"{file.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:12]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises InputError."""
    require(file.is_file(), "data_root", str(file), "an existing file")
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def _find_voc(root: Path) -> dict[str, list[Source]]:
    """Train is the augmented list: every image with a mask of VOC's train or of the Semantic Boundaries Dataset.

    Those of val, which is the test set, are left out: 10,582 remain. VOC's own masks are the finer ones.
    """
    base = next((path for path in (root / "VOCdevkit" / "VOC2012", root) if (path / "JPEGImages").is_dir()), None)
    if base is None:
        return {}
    lists, finer = base / "ImageSets" / "Segmentation", base / "SegmentationClass"
    val, masks = read_lines(lists / "val.txt"), dict[str, Path]()
    for folder in (root / "SBD" / "cls", base / "SegmentationClassAug"):
        masks |= {path.stem: path for path in folder.glob("*") if path.suffix in (".mat", ".png")}
    if masks:
        masks |= {name: finer / f"{name}.png" for name in read_lines(lists / "train.txt")}
    names = {"train": sorted(masks.keys() - set(val)), "val": val}
    masks |= {name: finer / f"{name}.png" for name in val}
    images = base / "JPEGImages"
    return {split: [Source(images / f"{stem}.jpg", masks[stem]) for stem in stems] for split, stems in names.items()}


def _pairs(images: Path, masks: Path) -> list[Source]:
    """The images of a folder in the order of their names, each with the mask of its name."""
    files = sorted(path for path in images.glob("*") if path.suffix.lower() in EXTENSIONS and not is_hidden(path.name))
    pairs = [Source(path, masks / f"{path.stem}.png") for path in files]
    for pair in pairs:
        require(pair.file.is_file(), "data_root", str(pair.images), f"an image with a mask, {pair.file}")
    return pairs
