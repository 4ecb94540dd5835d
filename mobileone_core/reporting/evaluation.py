"""An evaluation as plain text for a terminal: measured and published accuracy, each in its own column."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.reporting.published import read_published
from mobileone_core.study.columns import fitting_columns
from mobileone_core.study.rows import IMAGENET_TEST

DROPPED = ("interpolation", "crop", "px", "form", "standard error")  # columns that a narrow terminal lacks


@dataclass(frozen=True)
class EvaluationSetting:
    """What was evaluated and how its images were read; is_preset: the network is exactly the variant's.

    classes, present: number of the network's classes, and of those that the images have.
    """

    variant: str
    is_preset: bool
    data: str
    split: str
    form: str
    crop: str
    interpolation: str
    image_size: int
    classes: int = 0
    present: int = 0


def evaluation_table(setting: EvaluationSetting, metrics: Mapping[str, float]) -> str:
    """Return one row under its heads; accuracies in percent, the published one where the paper prints it."""
    top1, images = metrics[f"{setting.split}/top1"], metrics[f"{setting.split}/images"]
    top5 = metrics.get(f"{setting.split}/top5")
    row = {
        "variant": setting.variant if setting.is_preset else f"{setting.variant}, changed",
        "data": f"{setting.data} {setting.split}",
        **{name: getattr(setting, name) for name in ("form", "crop", "interpolation")},
        "px": str(setting.image_size),
        "images": f"{images:.0f}",
        "top-1, %": f"{100 * top1:.2f}",
        "standard error": f"{100 * standard_error(top1, images):.2f}",
        "top-5, %": "-" if top5 is None else f"{100 * top5:.2f}",
    }
    if setting.present < setting.classes:
        row = {name.replace("top-", f"over all {setting.classes}: top-"): text for name, text in row.items()}
        row[f"among the {setting.present} present: top-1, %"] = f"{100 * metrics[f'{setting.split}/subset_top1']:.2f}"
    if images >= IMAGENET_TEST and (printed := published_top1(setting)):  # a part of the set has no published value
        row["published top-1, %"] = f"{printed} (table 9)"
    widths = [max(len(head), len(cell)) for head, cell in row.items()]
    heads = list(row)
    shown = fitting_columns(widths, [heads.index(name) for name in DROPPED if name in heads])
    lines = ["  ".join(line[item].rjust(widths[item]) for item in shown) for line in (heads, list(row.values()))]
    return "\n".join([lines[0], "-" * len(lines[0]), lines[1]])


def standard_error(accuracy: float, images: float) -> float:
    """The binomial standard error of an accuracy over independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def published_top1(setting: EvaluationSetting) -> str:
    """Table 9's top-1 as printed, for an unchanged variant of the paper on ImageNet's test set; else empty."""
    if (setting.data, setting.split) != ("imagenet", "test") or not setting.is_preset:
        return ""
    name = f"MobileOne-{setting.variant.upper()}"
    return next((str(row["top1"]) for row in read_published("table9_imagenet") if row["model"] == name), "")
