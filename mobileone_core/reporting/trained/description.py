"""What the cells of a grid study are: setting, recipe, images, what the levels set, how far both forms agree."""

import itertools
import math

from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.factor import field_text, level_text
from mobileone_core.study.grid import GridPlan

DIFFERENCE = "test/form_difference"  # between the logits of the two forms over the test set
TEACHERS = "recipe.teachers"


def setting_text(plan: GridPlan) -> str:
    """What was trained on what: tiny on digits, recipe digits, 5 seeds a level. table.tex repeats it."""
    study = plan.study
    fields = dict(plan.changes)
    if plan.base.recipe.teachers and not any(TEACHERS in factor.fields for factor in study.factors):
        fields.setdefault(TEACHERS, plan.base.recipe.teachers)
    changes = "".join(f", {field_text(name.partition('.')[2], value)}" for name, value in fields.items())
    seeds = f"{study.seeds} seed{'' if study.seeds == 1 else 's'} a level"
    return f"{study.variant} on {study.data}, recipe {study.recipe}{changes}, {seeds}"


def recipe_text(result: TrainedResult) -> str:
    """The recipe and images of all cells in a sentence, without what a factor varies."""
    recipe, data, varied = result.plan.base.recipe, result.plan.base.data, result.varied
    optimizer = [("optimizer", recipe.optimizer), ("lr", f"at {recipe.lr:g}")]
    parts = [
        ("epochs", f"{recipe.epochs} epochs"),
        ("batch_size", f"batch {recipe.batch_size}"),
        ("", " ".join(text for name, text in optimizer if f"recipe.{name}" not in varied)),
        ("augmentation", f"augmentation {recipe.augmentation}"),
        ("phases", field_text("phases", recipe.phases) if recipe.phases else ""),
        ("teachers", field_text("teachers", recipe.teachers) if recipe.teachers else ""),
        ("temperature", f"soft labels at temperature {recipe.temperature:g}" if recipe.teachers else ""),
        ("hard_label_weight", f"hard labels weighted {recipe.hard_label_weight:g}" if recipe.teachers else ""),
    ]
    how = ", ".join(text for name, text in parts if text and f"recipe.{name}" not in varied)
    same = f"the {field_text('ema_decay', recipe.ema_decay)}"
    weights = "each level's weights" if "recipe.ema_decay" in varied else same
    size = "" if "data.image_size" in varied else f"{data.image_size} px, "
    counts = sorted({row.metrics["test/images"] for row in result.rows.values() if "test/images" in row.metrics})
    images = "".join(f" on {count:,.0f} images" for count in counts)
    return f"Trained for {how}; {size}{data.num_classes} classes; {weights} are tested{images}, in train form."


def level_lines(plan: GridPlan) -> list[str]:
    """What the labels of a factor stand for, where they are not the values of one field.

    A level that sets no field shows those that the other levels set, as the recipe has them.
    """
    lines = []
    for factor in (factor for factor in plan.study.factors if factor.settings):
        texts = []
        for label, changes in ((level, factor.settings[str(level)]) for level in factor.levels):
            spec = plan.base.changed(changes)
            names = (name.split(".") for name in changes or dict.fromkeys(itertools.chain(*factor.settings.values())))
            fields = (field_text(name, getattr(getattr(spec, part), name)) for part, name in names)
            texts.append(f"{level_text(label)}: {', '.join(fields)}")
        lines.append(f"*{factor.name}* {'; '.join(texts)}")
    return lines


def forms_text(result: TrainedResult) -> str:
    """The largest difference between the logits of the two forms over all cells."""
    rows = [row.metrics for row in result.rows.values() if DIFFERENCE in row.metrics]
    if not rows:
        return "How far the logits of train form and deployed form differ was not recorded."
    largest = max((row[DIFFERENCE] for row in rows), key=_nan_last)
    relative = [row[f"{DIFFERENCE}_relative"] for row in rows if f"{DIFFERENCE}_relative" in row]
    share = f" (relative {max(relative, key=_nan_last):.1e})" if relative else ""
    count = f"all {len(rows)}" if len(rows) == len(result.rows) else f"{len(rows)} of {len(result.rows)}"
    return (
        "Train form against deployed form: the logits of a test image differ by "
        f"{largest:.1e}{share} at most, the largest of {count} cells."
    )


def _nan_last(value: float) -> tuple[bool, float]:
    return math.isnan(value), value
