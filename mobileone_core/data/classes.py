"""Names of classes: those shown to people, and which of a network's classes the folders of a data set are."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from mobileone_core.data.catalog import class_names
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
    """ImageNet's 1000 names; of the two used twice (crane, maillot) the second class carries its number."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES  # takes a second

    first = {label: number for number, label in reversed(list(enumerate(CATEGORIES)))}
    return tuple(label if first[label] == number else f"{label} ({number})" for number, label in enumerate(CATEGORIES))


def network_classes(
    folders: Sequence[str], names: Sequence[str], count: int, mapping: Mapping[str, str]
) -> tuple[str, ...]:
    """Find the classes of a network that folders stand for.

    A folder is matched by the name of a class; for ImageNet's 1000 classes also by WordNet id (n01440764), any of its
    names, or number. Case, blanks, hyphens and underscores make no difference.

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
    if not names and not mapping and count == len(folders) and any(_plain(name) not in numbers for name in folders):
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
            known = f": {listed(names, SHOWN)}" if names else ", whose names are not known"
            allowed = f"one of the network's {count}{known}; --class-map FILE names its class"
            raise InputError.of("class", mapping.get(folder, folder), allowed)
        require(number not in found, "class", folder, f"one folder per class, {found.get(number)} is the same")
        found[number] = folder
    others = names or [f"class {number}" for number in range(count)]
    return tuple(found.get(number, f"{other} (no folder)") for number, other in enumerate(others))


def read_class_map(path: Path) -> dict[str, str]:
    """Read lines of a folder's name and its class: a number, a WordNet id or a name, after a comma or tab."""
    require(path.is_file(), "class_map", str(path), "an existing file")
    rows = [re.split(r"[,\t]", line, maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    wrong = next((row[0] for row in rows if len(row) < 2), "")
    require(not wrong, "class_map", wrong, "FOLDER,CLASS in every line")
    return {folder.strip(): name.strip() for folder, name in rows}


def _numbers(names: Sequence[str], count: int) -> dict[str, int]:
    """Number of a class by every name that it goes by."""
    numbers = {_plain(name): number for number, name in enumerate(names)}
    if count != IMAGENET_CLASSES or (names and tuple(names) != imagenet_labels()):
        return numbers if names else {str(number): number for number in range(count)}
    from timm.data.imagenet_info import ImageNetInfo

    info, known = ImageNetInfo(), dict[str, int]()
    for number in reversed(range(count)):  # a name used twice is the first class
        names = (*info.index_to_description(number).split(","), info.index_to_label_name(number), str(number))
        known |= dict.fromkeys(map(_plain, names), number)
    return known | {_plain(label): number for number, label in enumerate(imagenet_labels())}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
