"""Images with boxes: annotations in COCO's format, checked, in arrays."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileone_core.data.annotated.layouts import Annotated
from mobileone_core.data.images import decode
from mobileone_core.errors import InputError, require

Arrays = dict[str, NDArray[Any]]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


# What a field of COCO's format may be, by its name.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("id", "image_id", "category_id"), (_is_integer, "an integer")),
    **dict.fromkeys(("width", "height"), (lambda value: _is_integer(value) and value > 0, "an integer above 0")),
    **dict.fromkeys(("name", "file_name"), (_is_text, "a text")),
    "bbox": (_is_box, "four finite numbers: left, top, width, height"),
    "iscrowd": (lambda value: value in (0, 1), "0 or 1"),
    "area": (_is_number, "a finite number"),
}


@dataclass(frozen=True)
class BoxFiles:
    """The images of one split. indices (N,) number them in names, sizes (width, height) and ids of all in the file.

    rows has the annotations of all images in the order of the images, those of image i from starts[i] to starts[i + 1]:
    boxes, float32 (M, 4) xyxy within the image; labels, int64 (M,), from 1 in the order of the categories' ids; iscrowd
    (M,); area (M,), in pixels.
    """

    source: Annotated
    classes: tuple[str, ...]
    indices: NDArray[np.int64]
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    ids: NDArray[np.int64]
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
        return image, {name: values[rows] for name, values in self.rows.items()} | {"image_id": self.ids[number]}


def decode_sized(path: Path, size: tuple[int, ...]) -> Image.Image:
    """Decode an image, turned by its EXIF orientation unless only the image as it lies has a size (width, height)."""
    image = decode(path)
    lying = image if image.size == size else decode(path, upright=False)
    return lying if lying.size == size else image


def read_boxes(source: Annotated) -> BoxFiles:
    """Read annotations in COCO's format.

    Boxes are cut to the image; those that then have no area are left out. Images without objects stay. Raises
    InputError, naming file, entry and field, for what is missing or broken.
    """
    content = read_json(source.file)
    get, classes = _Columns(source.file, content), category_names(source.file, content)
    ids, names = get("images", "id"), get("images", "file_name")
    for index, name in enumerate(names):
        exists = (source.images / name).is_file()
        require(exists, f"{source.file}: images[{index}].file_name", name, f"a file below {source.images}")
    sizes = np.array([get("images", "width"), get("images", "height")], np.int64).T
    images, labels = get.positions("image_id", ids), get.positions("category_id", list(classes)) + 1
    corners, sides = np.split(np.array(get("annotations", "bbox"), np.float64).reshape(-1, 4), 2, axis=1)
    ends = np.concatenate([corners, corners + np.maximum(sides, 0)], axis=1)
    boxes = np.minimum(np.maximum(ends, 0), np.tile(sizes[images], 2)).astype(np.float32)
    crowds, areas = np.array(get("annotations", "iscrowd", 0)), np.array(get("annotations", "area", math.nan))
    areas = np.where(np.isnan(areas), sides.prod(1), areas).astype(np.float32)
    rows = {"boxes": boxes, "labels": labels, "iscrowd": crowds.astype(np.int64), "area": areas}
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
    kept = kept[np.argsort(images[kept], kind="stable")]
    starts = np.searchsorted(images[kept], np.arange(len(ids) + 1))
    paths, rows = np.array([name.encode() for name in names]), {name: values[kept] for name, values in rows.items()}
    indices = np.arange(len(ids))
    return BoxFiles(source, tuple(classes.values()), indices, paths, sizes, np.array(ids, np.int64), starts, rows)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file with an object in it. Raises InputError."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable as JSON ({' '.join(str(error).split())})") from error
    require(isinstance(content, dict), str(file), type(content).__name__, "an object in COCO's format")
    return dict(content)


def category_names(file: Path, content: Mapping[str, Any] | None = None) -> dict[int, str]:
    """The names of the categories by id, in the order of the ids. Raises InputError."""
    get = _Columns(file, read_json(file) if content is None else content)
    return dict(sorted(zip(get("categories", "id"), get("categories", "name"), strict=True)))


class _Columns:
    """Fields of the entries in a file of COCO's format, checked."""

    def __init__(self, file: Path, content: Mapping[str, Any]) -> None:
        self.file, self.content = file, content

    def __call__(self, table: str, field: str, default: Any = None) -> list[Any]:
        """The field of every entry; those without it have the default, unless that is None."""
        entries, (fits, allowed) = self.content.get(table), RULES[field]
        require(isinstance(entries, list), f"{self.file}: {table}", entries, "a list")
        values = [entry.get(field, default) if isinstance(entry, dict) else None for entry in entries or ()]
        for index, value in enumerate(values):
            if not (value is default is not None or fits(value)):
                raise InputError.of(f"{self.file}: {table}[{index}].{field}", value, allowed)
        return values

    def positions(self, field: str, ids: Sequence[int]) -> NDArray[np.int64]:
        """The position in ids of every annotation's image or category."""
        numbers = {number: position for position, number in enumerate(ids)}
        for index, value in enumerate(values := self("annotations", field)):
            allowed = f"the id of one of the {len(ids)} in the file"
            require(value in numbers, f"{self.file}: annotations[{index}].{field}", value, allowed)
        return np.array([numbers[value] for value in values], np.int64)
