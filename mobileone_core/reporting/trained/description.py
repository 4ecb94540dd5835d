"""What a study's cells are: recipe, images, teachers, and what every level costs to train and deploy. No torch here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mobileone_core.model.cost import model_cost
from mobileone_core.reporting.trained.result import Result
from mobileone_core.reporting.trained.words import MISSING
from mobileone_core.study.factor import Factor, fields_of, level_label, level_text
from mobileone_core.study.plan import Plan
from mobileone_core.study.statistics import Summary, summarize
from mobileone_core.study.words import field_words
from mobileone_core.training.cell import CellSpec

DIFFERENCE = "test/form_difference"  # of the two forms' logits over the test set


def varied_fields(plan: Plan) -> set[str]:
    """Fields of a cell that a factor varies: recipe.phases and so on."""
    return {name for factor in plan.study.factors for name in _fields(factor)}


def _fields(factor: Factor) -> list[str]:
    """The fields that a factor sets, in the order in which its levels name them."""
    named = [name for changes in factor.settings.values() for name in changes]
    return list(dict.fromkeys(named or [factor.field]))


def recipe_words(result: Result) -> str:
    """The base's recipe and images in a line, without what a factor varies."""
    recipe, data = result.plan.base.recipe, result.plan.base.data
    tested = sorted({row.metrics["test/images"] for row in result.rows.values() if "test/images" in row.metrics})
    images = "".join(f" on {count:,.0f} images" for count in tested)
    varied = varied_fields(result.plan)
    optimizer = [words for name, words in (("optimizer", recipe.optimizer), ("lr", f"at {recipe.lr:g}"))
                 if f"recipe.{name}" not in varied]  # fmt: skip
    told = [
        ("epochs", f"{recipe.epochs} epochs"),
        ("batch_size", f"batch {recipe.batch_size}"),
        ("", " ".join(optimizer)),
        ("augmentation", f"augmentation {recipe.augmentation}"),
        ("phases", field_words("phases", recipe.phases) if recipe.phases else ""),
        ("teachers", field_words("teachers", recipe.teachers) if recipe.teachers else ""),
        ("temperature", f"soft labels at temperature {recipe.temperature:g}" if recipe.teachers else ""),
        ("hard_label_weight", f"hard labels weighted {recipe.hard_label_weight:g}" if recipe.teachers else ""),
    ]
    how = ", ".join(words for name, words in told if words and f"recipe.{name}" not in varied)
    usual = f"the {field_words('ema_decay', recipe.ema_decay)}"
    ema = "each level's weights" if "recipe.ema_decay" in varied else usual
    size = "" if "data.image_size" in varied else f"{data.image_size} px, "
    return f"Trained for {how}; {size}{data.num_classes} classes; {ema} are tested{images}, in train form"


def level_lines(plan: Plan) -> list[str]:
    """What the labels of a factor stand for, where they are not the values of one field."""
    lines = []
    for factor in (factor for factor in plan.study.factors if factor.settings):
        levels = (f"{level_text(level)}: {_level_words(factor, plan.base, str(level))}" for level in factor.levels)
        lines.append(f"- *{factor.name}* {'; '.join(levels)}")
    return lines


def _level_words(factor: Factor, base: CellSpec, level: str) -> str:
    """The fields that a level sets; of a switch that sets none, those that the others set, as the recipe has them."""
    spec = base.changed(factor.settings[level])
    names = list(factor.settings[level]) or _fields(factor)
    parts: Mapping[str, Mapping[str, Any]] = {
        part: fields_of(getattr(spec, part)) for part in ("model", "data", "recipe")
    }
    words = []
    for name in names:
        part, _, field = name.partition(".")
        words.append(field_words(field, parts[part][field]))
    return ", ".join(words)


def cost_rows(result: Result) -> list[tuple[str, ...]]:
    """A header and a row a level: parameters and multiply-adds in train and deployed form.

    Where the study asks what cost buys, the metric stands beside.
    """
    factors = [factor.name for factor in result.plan.study.factors]
    beside = result.plan.study.figure == "cost"
    heads = [f"{what}, {form}" for what in ("parameters", "multiply-adds") for form in ("trained", "deployed")]
    rows: list[tuple[str, ...]] = [(*factors, *heads, *([f"measured {result.axis_label}", "n"] if beside else []))]
    summaries = {row.level: row.summary for row in result.analysis.comparisons}
    for cell in (cell for cell in result.plan.cells if cell.seed == 0):
        data = cell.spec.data
        cost = model_cost(cell.spec.model, data.image_size, data.num_classes)
        counts = (cost.train.params, cost.deployed.params, cost.train.macs, cost.deployed.macs)
        levels = (level_text(cell.factors[name]) for name in factors)
        summary = summaries[level_label(cell.factors)]
        measured = [summary_text(result, summary), str(summary.n)] if beside else []
        rows.append((*levels, *(f"{count:,}" for count in counts), *measured))
    return rows


def summary_text(result: Result, summary: Summary) -> str:
    """Mean and half width of the 95 % t interval in the metric's digits."""
    if summary.mean is None:
        return MISSING
    mean = result.metric.number(summary.mean)
    return mean if summary.high is None else f"{mean} ± {result.metric.number(summary.high - summary.mean)}"


def teacher_rows(result: Result) -> list[tuple[str, ...]]:
    """A header and a row a teacher, those from files by their hash; nothing where there is none."""
    cells: dict[str, list[str]] = {}
    for cell in result.plan.teachers:
        cells.setdefault(cell.variant, []).append(cell.key)
    files = dict.fromkeys(item for cell in result.plan.cells for item in cell.spec.recipe.teachers if item.weights)
    if not cells and not files:
        return []
    rows: list[tuple[str, ...]] = [("teacher", "weights", f"measured {result.axis_label}", "n")]
    for name, keys in cells.items():
        found = [result.teachers[key].metrics[result.metric.name] for key in keys if key in result.teachers]
        summary = summarize(value * result.metric.scale for value in found)
        count = str(summary.n) if summary.n == len(keys) else f"{summary.n} of {len(keys)}"
        rows.append((name, "trained first", summary_text(result, summary), count))
    return [*rows, *((item.network, f"file {item.weights} (SHA-256)", MISSING, MISSING) for item in files)]


def forms_line(result: Result) -> str:
    """By how much the two forms' logits differ on the test set, at most over all cells."""
    rows = [row.metrics for row in result.rows.values() if DIFFERENCE in row.metrics]
    if not rows:
        return "How far the logits of train form and deployed form differ was not recorded."
    worst = _largest([row[DIFFERENCE] for row in rows])
    relative = [row[DIFFERENCE + "_relative"] for row in rows if DIFFERENCE + "_relative" in row]
    beside = f" (relative {_largest(relative):.1e})" if relative else ""
    count = f"all {len(rows)}" if len(rows) == len(result.rows) else f"{len(rows)} of {len(result.rows)}"
    return (
        "Train form against deployed form: the logits of one test image differ by "
        f"{worst:.1e}{beside} at most, the largest of {count} cells."
    )


def _largest(values: Sequence[float]) -> float:
    """The largest value; one that is no number is worse than any."""
    return next((value for value in values if math.isnan(value)), max(values))
