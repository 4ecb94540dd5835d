"""Published test sets of ImageNet's classes from other distributions: ImageNet-A, -R, -Sketch and -C."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from mobileone_core.data.catalog import check_root
from mobileone_core.data.classes import IMAGENET_CLASSES, network_classes
from mobileone_core.data.folders import class_folders
from mobileone_core.errors import InputError, listed, require

# As published: images and classes per folder, and folders.
SETS = {"imagenet-a": (7_500, 200, 1), "imagenet-r": (30_000, 200, 1), "imagenet-sketch": (50_889, 1000, 1)}
SETS["imagenet-c"] = (50_000, 1000, 75)
SEVERITIES = (1, 2, 3, 4, 5)
# Errors of AlexNet, means over the severities, by which ImageNet-C (Hendrycks and Dietterich, ICLR 2019) divides: from
# github.com/hendrycks/robustness, as in imagenet.py of github.com/google-research/augmix, by the same author.
ALEXNET_ERRORS = {
    **{"gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880},
    **{"glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572},
    **{"fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056},
    **{"pixelate": 0.717840, "jpeg_compression": 0.606500},
}
Corruption = tuple[str, int]  # name and severity


def robustness_folders(name: str, root: Path | None) -> dict[Corruption | None, Path]:
    """The folders of a set in root or root/name: one, or those of ImageNet-C by corruption. Raises InputError."""
    root = check_root(name, root)
    root = root / name if (root / name).is_dir() else root
    if name != "imagenet-c":
        return {None: root}
    every = {(item, severity): root / item / str(severity) for item, severity in product(ALEXNET_ERRORS, SEVERITIES)}
    folders: dict[Corruption | None, Path] = {item: folder for item, folder in every.items() if class_folders(folder)}
    if not folders:
        raise InputError(f"data_root: {root} holds no {name}; expected CORRUPTION/SEVERITY/CLASS/IMAGE as in fog/1/")
    return folders


def robustness_classes(folder: Path, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return a network's 1000 classes by WordNet id, and the numbers of those with a folder, none if all have one.

    names are those that it gives its classes; empty if they are not known. Raises InputError for a folder of no class.
    """
    folders = class_folders(folder)
    others = [item for item in folders if not re.fullmatch(r"n\d{8}", item)]
    shown = f"{folder} with {listed(others or folders) or 'no folder'}"
    require(len(folders) > 1 and not others, "data_root", shown, "folders of classes named like n01440764, two or more")
    classes = network_classes(folders, names, IMAGENET_CLASSES, {})
    require(bool(classes), "data_root", shown, "the WordNet ids of ImageNet's 1000 classes")
    present = tuple(number for number, item in enumerate(classes) if item in set(folders))
    return classes, present if len(present) < len(classes) else ()


def corruption_metrics(errors: Mapping[Corruption, float], *, is_whole: bool) -> dict[str, float]:
    """Errors on ImageNet-C by corruption and severity; ce, their mean relative to AlexNet's, where all severities are.

    Of the whole set also mce, the mean of ce, and mean_error, the mean of the errors themselves.
    """
    metrics = {f"test/{name}_{severity}_error": value for (name, severity), value in errors.items()}
    for name, alexnet in ALEXNET_ERRORS.items():
        values = [errors[name, severity] for severity in SEVERITIES if (name, severity) in errors]
        metrics |= {f"test/{name}_ce": fmean(values) / alexnet} if len(values) == len(SEVERITIES) else {}
    if is_whole:
        relative = fmean(metrics[f"test/{name}_ce"] for name in ALEXNET_ERRORS)
        metrics |= {"test/mce": relative, "test/mean_error": fmean(errors.values())}
    return metrics
