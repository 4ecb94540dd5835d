"""Looks a data set up by name below a data root; decodes, downloads and writes nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mobileone_core.data import folders
from mobileone_core.data.annotated.layouts import find_annotated, fingerprint_of, read_lines
from mobileone_core.data.spec import DATA_SETS, IMAGENET_ARCHIVES, SCENE_ITEMS, DataSpec
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.files import expanded


def resolve_data(  # noqa: PLR0913
    name: str,
    root: Path | None,
    image_size: int | None = None,
    *,
    test_only: bool = False,
    classes: Sequence[str] = (),
    task: str = "",
    items: str = "digits",
    read: Callable[[Path], dict[str, Any]] = folders.read_folder,
) -> DataSpec:
    """Return the DataSpec of a data set by name.

    root is the directory given as --data-root; digits needs none. image_size (pixels) replaces the data set's default
    resolution. Lists directories, reads no image. With test_only the spec is for open_test: the test set alone must
    exist, and an image folder's fingerprint covers it alone; classes then are those of read_test. task is the first of
    the data set's if not given; scenes are composed of items; read lists an image folder. Raises InputError for an
    unknown name, a missing root, a root without the data if it cannot be downloaded, or a class too small to carve.
    """
    require_choice("data", name, DATA_SETS)
    require_choice("items", items, SCENE_ITEMS)
    entry, in_files = DATA_SETS[name], items if name == "scenes" else name
    directory = Path() if in_files == "digits" else check_root(in_files, root)
    count, mark, is_carved, images = entry.classes, "", True, entry.train_images
    class_images = [(images + number) // count for number in range(count if images else 0)]  # all but equal
    if name == "scenes":
        count, class_images, is_carved = DATA_SETS[items].classes + (task == "segmentation"), [images], False
    elif "classification" not in entry.tasks:
        count, mark, class_images, is_carved = _annotated_facts(name, directory, test_only=test_only)
    elif name == "imagenet":
        _check_imagenet(directory, test_only=test_only)
    elif name == "folder":
        splits = folders.read_test(directory, classes) if test_only else read(directory)
        for files in splits.values():
            files.require_content()
        folders.require_carvable(splits)
        if "train" in splits:
            class_images, is_carved = list(Counter(splits["train"].labels.tolist()).values()), len(splits) < 3
        count, mark = len(next(iter(splits.values())).classes), folders.fingerprint(splits)
    size = entry.image_size if image_size is None else image_size
    return DataSpec(name, size, count, entry.channels, entry.val_fraction, mark, tuple(class_images), is_carved, items)


def _annotated_facts(name: str, root: Path, *, test_only: bool) -> tuple[int, str, list[int], bool]:
    """Classes, fingerprint, training images, and whether validation is carved, of a set with boxes or masks.

    One's own sets, and parts of VOC and ADE20K, have a fingerprint.
    """
    entry, published, mark = DATA_SETS[name], DATA_SETS[name].train_images, ""
    found = find_annotated(name, root, test_only=test_only)
    train, images = found.get("train", ()), published
    if name == "boxes" and train:
        from mobileone_core.data.annotated.boxes import read_json  # Pillow takes time

        images = len(read_json(train.file).get("images", ()))
    elif name != "coco":  # whose file of annotations takes a minute to read
        images = len(train)
    if images != published or name == "boxes":
        sources = found.values() if "detection" in entry.tasks else chain.from_iterable(found.values())
        mark = fingerprint_of((file for source in sources for file in source if not file.is_dir()), root)
    count = entry.classes + entry.background or len(_annotated_names(name, root))
    return count, mark, [images] * (images > 0), len(found) < 3


def _annotated_names(name: str, root: Path) -> list[str]:
    """The classes' names of a set that lists them in a file; numbers for ADE20K without its objectInfo150.txt."""
    if "detection" in DATA_SETS[name].tasks:
        from mobileone_core.data.annotated.boxes import category_names, read_json

        *_, last = find_annotated(name, root, test_only=True).values()
        return list(category_names(last.file, read_json(last.file)).values())
    if name == "masks":
        names = read_lines(root / "classes.txt")
        require(0 < len(names) < 256, "data_root", f"{root / 'classes.txt'} ({len(names)} lines)", "1 to 255 classes")
        return names
    info = [path for path in (root, root / "ADEChallengeData2016") if (path / "objectInfo150.txt").is_file()]
    if not info:
        return [str(number) for number in range(1, DATA_SETS[name].classes + 1)]
    return [line.rpartition("\t")[2] for line in read_lines(info[0] / "objectInfo150.txt")[1:]]


def class_names(spec: DataSpec, root: Path | None) -> tuple[str, ...]:
    """Return the classes' names in label order: folder names for an image folder, WordNet ids for ImageNet's images.

    Masks of a set with background begin with it. root is the data root. Raises InputError if folders are needed and
    missing.
    """
    entry = DATA_SETS[spec.items if spec.name == "scenes" else spec.name]
    if entry.class_names:
        has_background = spec.num_classes > len(entry.class_names)
        return ("background",) * has_background + entry.class_names
    root = check_root(spec.name, root) / entry.directory
    if "classification" not in entry.tasks:
        return tuple(_annotated_names(spec.name, root))
    names = folders.root_classes(root)
    require(len(names) == spec.num_classes, "data_root", str(root), f"{spec.num_classes} folders of classes")
    return tuple(names)


def check_root(name: str, root: Path | None) -> Path:
    """Return the data root with ~ expanded. Raises InputError unless it is an existing directory."""
    if root is None:
        raise InputError(f"data_root: {name} needs the directory of its images; give it with --data-root DIR")
    root = expanded(root)
    require(root.is_dir(), "data_root", str(root), "an existing directory")
    return root


def imagenet_folders(root: Path, *, test_only: bool) -> dict[str, Path]:
    """Return the folders of ImageNet's train and val, or that of its test set alone, by split."""
    if test_only:
        return dict([folders.find_test(root)])
    return {split: folders.split_folder(root, split) for split in ("train", "val")}


def _check_imagenet(root: Path, *, test_only: bool) -> None:
    """Raise InputError unless root holds ImageNet's train/ and val/ of 1000 classes each, or the archives."""
    archives = [archive for archive in IMAGENET_ARCHIVES if not (test_only and "train" in archive)]
    if all((root / archive).is_file() for archive in archives):
        return
    splits = imagenet_folders(root, test_only=test_only)
    for folder in splits.values():
        count = len(folders.class_folders(folder))
        if count == 0:
            layout = f"{'/ and '.join(splits)}/ with one folder per class, or the archives {', '.join(archives)}"
            raise InputError(f"data_root: {root} holds no ImageNet, which cannot be downloaded; expected {layout}")
        if count != DATA_SETS["imagenet"].classes:
            cure = "read a part of it with --data folder"
            raise InputError(f"data_root: {folder} holds {count} classes, ImageNet has 1000; {cure}")
