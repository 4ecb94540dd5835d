"""Names of classes: those shown to people, and which of a network's classes the folders of a data set are."""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from mobileone_core.data.catalog import class_names
from mobileone_core.data.folders import plain_name
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError, listed, require
from mobileone_core.files import read_text

IMAGENET_CLASSES = DATA_SETS["imagenet"].classes
SHOWN = 4  # names in a message


def shown_names(spec: DataSpec, root: Path | None) -> tuple[str, ...]:
    """Names of a data set's classes in label order: ImageNet's in English; empty if they cannot be known."""
    if spec.name == "imagenet":
        return imagenet_labels()
    try:
        return class_names(spec, root)
    except InputError:
        return ()


@lru_cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet's 1000 names, each of another class."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES  # takes a second

    return tuple(CATEGORIES)


def network_classes(
    folders: Sequence[str], names: Sequence[str], count: int, mapping: Mapping[str, str]
) -> tuple[str, ...]:
    """Find the classes of a network that folders stand for.

    A folder is matched by the name of a class; for ImageNet's 1000 classes also by WordNet id (n01440764), any of its
    names or all of them, or number. Case, blanks, hyphens, underscores and leading zeros make no difference.

    Args:
        folders: Names of the folders of a data set.
        names: The network's class names in the order of its outputs; empty if they are not known.
        count: Number of its classes.
        mapping: Class of a folder, as name, WordNet id or number, where the folder's name does not say it.

    Returns:
        One name per class, the folder's where there is one; empty if only the order can match them, number by number.

    Raises InputError for a folder that is no class of the network, and two folders of one class.
    """
    numbers, unknown = _numbers(names, count), set(mapping) - set(folders)
    others = [folder for folder in folders if _plain(folder) not in numbers]
    in_order = len(others) == count or (bool(others) and all(map(str.isdecimal, folders)))
    if not names and not mapping and count == len(folders) and in_order:
        return ()
    labels = names or (imagenet_labels() if count == IMAGENET_CLASSES else ())
    exact = {label: number for number, label in enumerate(labels)}
    allowed = f"folders of the data set: {listed(folders, SHOWN)}"
    require(not unknown, "class_map", listed(sorted(unknown), SHOWN), allowed)
    found: dict[int, str] = {}
    for folder in folders:
        name = mapping.get(folder, folder)
        number = exact.get(name, numbers.get(_plain(name)))
        if number is None:
            known = f": {listed(labels, SHOWN)}" if labels else ", whose names are not known"
            allowed = f"one of the network's {count}{known}; --class-map FILE names its class"
            raise InputError.of("class", mapping.get(folder, folder), allowed)
        require(number not in found, "class", folder, f"one folder per class, {found.get(number)} is the same")
        found[number] = folder
    every = names or [f"class {number}" for number in range(count)]
    return tuple(found.get(number, f"{name} (no folder)") for number, name in enumerate(every))


def read_class_map(path: Path) -> dict[str, str]:
    """Read lines of a folder's name and its class: a number, a WordNet id or a name, after a comma or tab.

    Names may be quoted, as CSV has those with a comma. Raises InputError for a folder of two classes.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    rows = [next(csv.reader([line], delimiter="\t" if "\t" in line else ",")) for line in lines]
    wrong = next((row[0] for row in rows if len(row) < 2), "")
    require(not wrong, "class_map", wrong, "FOLDER,CLASS in every line")
    pairs = {(folder.strip(), ",".join(names).strip()) for folder, *names in rows}
    mapping = dict(pairs)
    twice = sorted({folder for folder, name in pairs if mapping[folder] != name})
    require(not twice, "class_map", listed(twice, SHOWN), "one class per folder")
    return mapping


def _numbers(names: Sequence[str], count: int) -> dict[str, int]:
    """Number of a class by every name that it goes by."""
    numbers = {_plain(name): number for number, name in enumerate(names)}
    if count != IMAGENET_CLASSES or (names and tuple(names) != imagenet_labels()):
        return numbers if names else {str(number): number for number in range(count)}
    from timm.data.imagenet_info import ImageNetInfo

    info, known = ImageNetInfo(), dict[str, int]()
    for number in reversed(range(count)):  # a name used twice is the first class
        every = info.index_to_description(number)
        names = (every, *every.split(","), info.index_to_label_name(number), str(number))
        known |= dict.fromkeys(map(_plain, names), number)
    return known | {_plain(label): number for number, label in enumerate(imagenet_labels())}


def _plain(name: str) -> str:
    return plain_name(re.sub(r"(?<=.)[\s_-]+", " ", name.strip()))  # -1 keeps its sign
