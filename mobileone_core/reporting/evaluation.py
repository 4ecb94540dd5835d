"""An evaluation as plain text for a terminal: measured and published accuracy, each in its own column."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.reporting.published import read_published
from mobileone_core.study.columns import text_table
from mobileone_core.study.rows import IMAGENET_TEST

Errors = Mapping[tuple[str, int], float]  # by corruption and severity
DROPPED = ("interpolation", "crop", "px", "form", "standard error")  # columns that a narrow terminal lacks


@dataclass(frozen=True)
class EvaluationSetting:
    """The network evaluated and how its images were read; is_preset: the network is exactly the variant's.

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
    if printed := published_accuracy(setting, images):
        row["published top-1, %"] = printed
    heads, cells = text_table([list(row), list(row.values())], DROPPED, str.rjust)
    rule = f"among those present: the logits of the other {setting.classes - setting.present} classes are left out"
    return "\n".join([heads, "-" * len(heads), cells, *([rule] if setting.present < setting.classes else [])])


def standard_error(accuracy: float, images: float) -> float:
    """The binomial standard error of an accuracy over independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def published_accuracy(setting: EvaluationSetting, images: float, column: str = "") -> str:
    """The value of table 9 or of a column of table 12, by default the set's, for an unchanged variant; else empty."""
    is_imagenet = setting.data == "imagenet" and images >= IMAGENET_TEST
    if setting.split != "test" or not setting.is_preset:
        return ""
    number, table, column = (9, "table9_imagenet", "top1") if is_imagenet else (12, "table12_robustness", column)
    name, column = f"MobileOne-{setting.variant.upper()}", column or setting.data.replace("-", "_")
    value = next((row.get(column) for row in read_published(table) if row["model"] == name), None)
    return f"{value} (table {number})" if value else ""


def corruption_table(
    setting: EvaluationSetting, errors: Errors, alexnet: Mapping[str, float], metrics: Mapping[str, float]
) -> str:
    """Errors on ImageNet-C by corruption and severity, AlexNet's means, their ratio and its mean; in percent."""
    severities = sorted({severity for _, severity in errors})
    rows = [["error, % (severity)", *map(str, severities), "AlexNet", "CE"]]
    for name, reference in alexnet.items():
        shown = *(errors.get((name, item)) for item in severities), reference, metrics.get(f"test/{name}_ce")
        rows.append([name, *("-" if value is None else f"{100 * value:.2f}" for value in shown)])
    lines = [f"{name:<20}{''.join(f'{text:>9}' for text in texts)}" for name, *texts in rows]
    if "test/mce" not in metrics:
        return "\n".join([*lines, f"{setting.data}: all 75 parts of 50,000 images give a mean corruption error"])
    printed = published_accuracy(setting, 0, "imagenet_c_mce")
    mce = f"mean corruption error (mCE: the mean of CE) {100 * metrics['test/mce']:.2f} %"
    mce += printed and f"; published {printed}"
    mean = f"mean error (another number: not divided by AlexNet's) {100 * metrics['test/mean_error']:.2f} %"
    return "\n".join([*lines, mce, mean])
