"""Images with boxes: annotations in COCO's format, checked, in arrays."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileone_core.data.annotated.layouts import Source
from mobileone_core.data.images import decode
from mobileone_core.errors import refusing, require

Arrays = dict[str, NDArray[Any]]


def _is_number(value: Any, *types: type) -> bool:
    return type(value) in (types or (int, float)) and abs(value) < 2**63  # neither infinite nor NaN


# What a field of COCO's format may be, by its name.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("id", "image_id", "category_id"), (lambda value: _is_number(value, int), "an integer")),
    **dict.fromkeys(("width", "height"), (lambda value: _is_number(value, int) and value > 0, "an integer above 0")),
    **dict.fromkeys(("name", "file_name"), (lambda value: isinstance(value, str), "a text")),
    "bbox": (lambda value: isinstance(value, list) and [*map(_is_number, value)] == [True] * 4, "four finite numbers"),
    "iscrowd": (lambda value: value in (0, 1), "0 or 1"),
    "area": (lambda value: _is_number(value) and value >= 0, "a finite number of 0 or more"),
}


@dataclass(frozen=True)
class BoxFiles:
    """The images of one split. indices (N,) number them in names and sizes (width, height) of all in the file.

    rows has the annotations of all images in the order of the images, those of image i from starts[i] to starts[i + 1]:
    boxes, float32 (M, 4) xyxy within the image; labels, int64 (M,), from 1 in the order of the categories' ids; iscrowd
    (M,); area (M,), in pixels.
    """

    source: Source
    classes: tuple[str, ...]
    indices: NDArray[np.int64]
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: Arrays

    def __len__(self) -> int:
        return len(self.indices)

    def subset(self, indices: NDArray[np.int64]) -> "BoxFiles":
        """The images at indices, in that order."""
        return replace(self, indices=self.indices[indices])

    def path(self, index: int) -> Path:
        """The path of an image."""
        return self.source.images / bytes(self.names[self.indices[index]]).decode()

    def read(self, index: int) -> tuple[Image.Image, Arrays]:
        """Read an image and its annotations. Raises InputError.

        An EXIF orientation turns the image, unless its size is the annotated one only as it lies.
        """
        number = self.indices[index]
        size, path = tuple(self.sizes[number].tolist()), self.path(index)
        image = decode_sized(path, size)
        allowed = f"those of {path}, {image.width} and {image.height}"
        require(image.size == size, f"{self.source.file}: images[{number}].width and height", size, allowed)
        rows = slice(self.starts[number], self.starts[number + 1])
        return image, {name: values[rows] for name, values in self.rows.items()}


def decode_sized(path: Path, size: tuple[int, ...]) -> Image.Image:
    """Decode an image, turned by its EXIF orientation unless only the image as it lies has a size (width, height)."""
    image = decode(path)
    lying = image if image.size == size else decode(path, upright=False)
    return lying if lying.size == size else image


def read_boxes(source: Source) -> BoxFiles:
    """Read annotations in COCO's format.

    Boxes are cut to the image; those that then have no area are left out. Images without objects stay. Raises
    InputError, naming file, entry and field, for what is missing or broken.
    """
    file, content = source.file, read_json(source.file)
    get, classes = partial(_column, file, content), category_names(file, content)
    ids, names = get("images", "id"), get("images", "file_name")
    for index, name in enumerate(names):
        exists = (source.images / name).is_file()
        require(exists, f"{file}: images[{index}].file_name", name, f"a file below {source.images}")
    sizes = np.array([get("images", "width"), get("images", "height")], np.int64).T
    positions, numbers = ({number: position for position, number in enumerate(every)} for every in (ids, classes))
    images = np.array([positions[value] for value in get("annotations", "image_id", ids=positions)], np.int64)
    labels = np.array([numbers[value] + 1 for value in get("annotations", "category_id", ids=numbers)], np.int64)
    corners, sides = np.split(np.array(get("annotations", "bbox"), np.float64).reshape(-1, 4), 2, axis=1)
    ends = np.concatenate([corners, corners + np.maximum(sides, 0)], axis=1)
    boxes = np.minimum(np.maximum(ends, 0), np.tile(sizes[images], 2)).astype(np.float32)
    crowds, areas = np.array(get("annotations", "iscrowd", 0)), np.array(get("annotations", "area", math.nan))
    areas = np.where(np.isnan(areas), sides.prod(1), areas).astype(np.float32)
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
    kept = kept[np.argsort(images[kept], kind="stable")]
    starts = np.searchsorted(images[kept], np.arange(len(ids) + 1))
    rows = {"boxes": boxes, "labels": labels, "iscrowd": crowds.astype(np.int64), "area": areas}
    rows, paths = {name: values[kept] for name, values in rows.items()}, np.array([name.encode() for name in names])
    return BoxFiles(source, tuple(classes.values()), np.arange(len(ids)), paths, sizes, starts, rows)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file with an object in it. Raises InputError."""
    with refusing(f"{file}: not readable as JSON"):
        content = json.loads(file.read_bytes())
    require(isinstance(content, dict), str(file), type(content).__name__, "an object in COCO's format")
    return dict(content)


def category_names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """The names of the categories by id, in the order of the ids. Raises InputError."""
    ids, names = (_column(file, content, "categories", field) for field in ("id", "name"))
    return dict(sorted(zip(ids, names, strict=True)))


def _column(  # noqa: PLR0913, PLR0917
    file: Path, content: Mapping[str, Any], table: str, field: str, default: Any = None, ids: Any = None
) -> list[Any]:
    """A field of every entry, checked: one of ids, if given; ids and file names once. default is for those without."""
    entries, (fits, allowed) = content.get(table), RULES[field]
    require(isinstance(entries, list), f"{file}: {table}", entries, "a list")
    values = [entry.get(field, default) if isinstance(entry, dict) else None for entry in entries or ()]
    allowed, firsts = allowed if ids is None else "an id that the file has", dict[Any, int]()
    for index, value in enumerate(values):
        is_valid = value is default is not None or (fits(value) and (ids is None or value in ids))
        require(is_valid, f"{file}: {table}[{index}].{field}", value, allowed)
        first = firsts.setdefault(value, index) if field in ("id", "file_name") else index
        require(first == index, f"{file}: {table}[{index}].{field}", value, f"another than that of {table}[{first}]")
    return values
