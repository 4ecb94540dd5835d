"""How a grid study is reported: its files, its result, its document and its figures."""

import itertools
import shlex
from collections.abc import Mapping

import numpy as np

from mobileone_core.reporting.document import Block, Bullets, Details, Document, Figure, Paragraph, Section
from mobileone_core.reporting.environment import environment_blocks, tag_values
from mobileone_core.reporting.figures import curves, levels, ranges
from mobileone_core.reporting.figures.panels import shown_values
from mobileone_core.reporting.figures.style import Drawing, drawing
from mobileone_core.reporting.published import CAVEATS, quoted_notes
from mobileone_core.reporting.trained import tables
from mobileone_core.reporting.trained.cells import read_trained, trained_files
from mobileone_core.reporting.trained.comparison import comparison_section
from mobileone_core.reporting.trained.quantized import Int8Losses, int8_section
from mobileone_core.reporting.trained.result import TrainedResult, analyse
from mobileone_core.reporting.trained.verdict import verdict
from mobileone_core.study.factor import field_text, level_text
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.statistics import ALPHA, Analysis

DIFFERENCE = "test/form_difference"  # between the logits of the two forms over the test set


def trained_document(result: TrainedResult) -> Document:
    """Return the report: levels against the baseline, effects, curves, costs, recipe, environment and runs."""
    plan, study = result.plan, result.plan.study
    trained: list[Block] = [Paragraph(recipe_text(result)), Bullets(level_lines(plan)), tables.cost_table(result)]
    if (teachers := tables.teachers_table(result)).rows:
        text = "Teachers, not a level of the study; runs of those trained first are listed below."
        trained += [Paragraph(text), teachers]
    return Document(
        name=study.name,
        title=study.question,
        source=study.source,
        setting=setting_text(plan),
        verdict=verdict(result),
        table=tables.main_table(result),
        figure=Figure("figure", study.question),
        notes=_notes(result),
        problems=result.problems,
        missing=[
            f"{result.level_name(level)}: {study.seeds - len(cells)} of {study.seeds} seeds; missing "
            + ", ".join(f"seed {cell.seed} (`{cell.key}`)" for cell in cells)
            for level, cells in result.missing.items()
            if cells
        ],
        sections=(
            _effects(result),
            int8_section(result),
            tables.corruptions_section(result),
            _curves(result),
            comparison_section(result),
            _examples(result),
            Section("What was trained", (*trained, Paragraph(forms_text(result)))),
            Section("Environment", environment_blocks([*result.rows.values()], "cells", alike=True)),
            repeat_section(result),
            Section("Cells", (Details("All cells with their runs", (tables.cells_table(result),)),)),
        ),
        values=_values(result),
    )


class TrainedKind:
    """Reports of grid studies, whose replicates are seeds."""

    version = 9
    record_files = staticmethod(trained_files)
    read_record = staticmethod(read_trained)
    analyse = staticmethod(analyse)
    document = staticmethod(trained_document)

    def suffix(self, plan: GridPlan) -> str:
        """Return the data set if levels and seeds alone differ from the defaults, else variant, data and id."""
        study, data = plan.study, plan.study.data
        return data if plan.follows_data else f"{study.variant}-{data}-{plan.id}"

    def figures(self, result: TrainedResult) -> Mapping[str, Drawing]:
        """Draw the metric by level or over cost, and curves and ranges of int8 networks where they are recorded."""
        figures = {"figure": levels.draw(result), **({"curves": curves.draw_curves(result)} if result.curves else {})}
        shows_ranges = bool(Int8Losses(result).samples)
        return figures | ({"ranges": drawing(lambda: ranges.ranges_figure(result))} if shows_ranges else {})


def _notes(result: TrainedResult) -> list[str]:
    analysis, study = result.analysis, result.plan.study
    direction = "Higher" if result.metric.higher_is_better else "Lower"
    notes = [
        f"*Measured*: mean over seeds with its 95 % t interval; sd with n - 1. {direction} is better.",
        f"*Difference*, *verdict* and *detectable* come from one model, {_model(analysis)}. The intervals hold "
        f"simultaneously at 95 % (each at {100 * analysis.confidence:.4g} %). A level is better or worse if Holm's "
        "test at 5 % and its interval agree.",
        '*Detectable*: the true difference that this many seeds detect with 80 % power. We never claim "no '
        'difference", only that n seeds did not show one.',
    ]
    if any(result.missing.values()):
        notes.append("Cells are missing: differences compare equal seeds, so they are not those of the means.")
    if result.published:
        source = "; ".join(dict.fromkeys(value.source for value in result.published))
        notes.append(
            f"*Published*: printed in the paper ({source}; ImageNet; no seeds, no spread), never mixed with ours. "
            f"{CAVEATS[study.published]}"
        )
    if sum(map(len, shown_values(result).values())) < len(result.published):
        notes.append(
            "The figure has a published panel only for variants with two levels or more in the metric's unit; "
            "single values and gains are in the table."
        )
    text = "The same table with paired t tests and wins: `table.csv`, `table.tex`; the metric is"
    return [*notes, f"{text} {study.metric}."]


def _model(analysis: Analysis) -> str:
    """The model of an analysis in words, with its degrees of freedom."""
    if not analysis.df_within:
        return f"value = level + seed, with the residual pooled over all cells ({analysis.df} degrees of freedom)"
    return (
        "value = level + seed + training + reading, since some levels are readings of one training (as trained, "
        f"averaged, quantized): trainings vary with {analysis.df} degrees of freedom, readings of one with "
        f"{analysis.df_within}"
    )


def _effects(result: TrainedResult) -> Section:
    rows = result.effects
    if not rows:
        return Section("Main effects", ())
    has_interactions = any(row.order > 1 for row in rows)
    interactions = (
        "*Effect of a x b*, an interaction: the change of a's effect when b is set too, that is what both bring beyond "
        "the sum of what each brings alone (without the factor 1/2); of three factors, the change of such a change. "
        "Where an interaction shows, a main effect is the mean over unlike effects."
    )
    notes = [
        "*Effect*: a level against its factor's baseline level, the mean over all levels of the other factors. "
        "Raises and lowers refer to the metric, whichever direction is better.",
        interactions if has_interactions else "Interactions are estimated where every factor has two levels.",
        "The model is that of the table above; Holm's test and the intervals "
        f"(each at {100 * (1 - ALPHA / len(rows)):.4g} %) cover these {len(rows)} effects, separately from the table "
        "above. As numbers: `effects.csv`.",
    ]
    heading = "Main effects" + (" and interactions" if has_interactions else "")
    return Section(heading, (tables.effects_table(result), Bullets(notes)), is_key=True)


def _curves(result: TrainedResult) -> Section:
    """Figure and table of the training curves; says so where a study names some and none is recorded."""
    names = " and ".join(map(tables.curve_label, result.plan.curves))
    blocks: list[Block] = [Paragraph(f"No curve of {names} is recorded yet.")]
    notes = quoted_notes(result.plan.study.name)
    if result.curves:
        blocks = [Figure("curves", f"{names.capitalize()} over epochs"), tables.curve_table(result)]
        notes = [
            "*Last epoch*: mean over seeds with its 95 % t interval; the difference is taken per seed, in percent of "
            "the baseline's value. These intervals are not adjusted for the number of levels.",
            *notes,
        ]
    return Section("Training curves", (*blocks, Bullets(notes)) if result.curves or result.plan.study.curves else ())


def _examples(result: TrainedResult) -> Section:
    """Test images of the first cell of each level that the record has examples of."""
    text = (
        "The test images with the largest losses of {}, seed {}, the worst first. Ground truth is on the left of each "
        "pair, the prediction on the right (of a detector, objects with a score of 0.5 or more)."
    )
    figures = dict[str, Figure]()
    for level, (cell, _) in ((name, pair) for name in result.levels for pair in result.finished(name)):
        caption, name = text.format(result.level_name(level), cell.seed), f"examples-{cell.key}"
        if cell.key in result.examples:
            figures.setdefault(level, Figure(name, "Ground truth and predictions", caption, "png"))
    return Section("Test images", [*figures.values()])


def _values(result: TrainedResult) -> dict[str, str]:
    """Facts for other pages: number of seeds, cells and teachers, detectable difference, minutes of training."""
    rows = (*result.rows.values(), *result.teachers.values())
    seconds = sum(row.metrics.get("time/train_seconds", 0.0) for row in rows)
    counts = {"n": result.plan.study.seeds, "cells": len(result.plan.cells), "teachers": len(result.teachers)}
    values = {**{name: str(count) for name, count in counts.items()}, "minutes": f"{seconds / 60:.1f}"}
    detectable = [row.detectable for row in result.compared if row.detectable is not None]
    return {**values, "detectable": result.metric.amount(max(detectable))} if detectable else values


def setting_text(plan: GridPlan) -> str:
    """The network, data and seeds: tiny on digits, recipe digits, 5 seeds per level. table.tex repeats it."""
    study = plan.study
    fields = dict(plan.changes)
    if plan.base.recipe.teachers and not any("recipe.teachers" in factor.fields for factor in study.factors):
        fields.setdefault("recipe.teachers", plan.base.recipe.teachers)
    changes = "".join(f", {field_text(name.partition('.')[2], value)}" for name, value in fields.items())
    first = f" from {study.first_seed}" if study.first_seed else ""
    seeds = f"{study.seeds} seed{'' if study.seeds == 1 else 's'}{first} per level"
    return f"{plan.network} on {plan.base.data.title}, {plan.recipe_title}{changes}, {seeds}"


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
    is_varied = "recipe.ema_decay" in varied
    weights = "each level's weights" if is_varied else f"the {field_text('ema_decay', recipe.ema_decay)}"
    size = "" if "data.image_size" in varied else f"{data.image_size} px, "
    counts = sorted({row.metrics["test/images"] for row in result.rows.values() if "test/images" in row.metrics})
    images = "".join(f" on {count:,.0f} images" for count in counts)
    how = f"for {how}" if how else "as the recipes say"
    return f"Trained {how}; {size}{data.num_classes} classes; {weights} are tested{images}, in train form."


def level_lines(plan: GridPlan) -> list[str]:
    """The meaning of a factor's labels that are not the values of one field.

    A level that sets no field shows those that the other levels set, as the recipe has them.
    """
    lines = []
    for factor in sorted(plan.study.factors, key=lambda factor: bool(factor.settings)):  # labels first
        texts = [f"{label}: `{value}`" for label, value in factor.labels.items() if label in factor.levels]
        for level in factor.levels if factor.settings else ():
            spec = plan.study.applied(plan.base, {**plan.study.baseline, factor.name: level})
            changes = factor.settings[str(level)] or dict.fromkeys(itertools.chain(*factor.settings.values()))
            names = (name.split(".") for name in changes)
            fields = (field_text(name, getattr(getattr(spec, part), name)) for part, name in names)
            texts.append(f"{level_text(level)}: {', '.join(fields)}")
        lines += [f"*{factor.name}* {'; '.join(texts)}"] * bool(texts)
    return lines


def forms_text(result: TrainedResult) -> str:
    """The largest difference between the logits of the two forms over all cells."""
    rows = [row.metrics for row in result.rows.values() if DIFFERENCE in row.metrics]
    if not rows:
        return "How far the logits of train form and deployed form differ was not recorded."
    largest = np.max([row[DIFFERENCE] for row in rows])  # NaN, if one is
    relative = [row[f"{DIFFERENCE}_relative"] for row in rows if f"{DIFFERENCE}_relative" in row]
    share = f" (relative {np.max(relative):.1e})" if relative else ""
    count = f"all {len(rows)}" if len(rows) == len(result.rows) else f"{len(rows)} of {len(result.rows)}"
    plain = [row["deployed/as_plain"] for row in rows if "deployed/as_plain" in row]
    folded = f" {sum(plain):.0f} of {len(plain)} deployed networks have class, keys and shapes of the plain network."
    return (
        "Train form against deployed form: the logits of a test image differ by "
        f"{largest:.1e}{share} at most, the largest of {count} cells.{folded if plain else ''}"
    )


def repeat_section(result: TrainedResult) -> Section:
    """The measured cost of all cells and one command; empty for a plan that one data set's defaults do not give."""
    plan = result.plan
    if not plan.follows_data or not plan.study.metric.startswith("test/"):
        return Section("Repeating it", ())
    rows = [*result.rows.values(), *result.teachers.values()]
    times = [row.metrics["time/train_seconds"] for row in rows if "time/train_seconds" in row.metrics]
    counts = f"{len(rows)} cells" + (f", {len(result.teachers)} of them teachers" if result.teachers else "")
    cost = f"{counts}, trained in {sum(times) / 3600:.1f} hours, the sum of the cells' own training times"
    mean = f"{sum(times) / len(times):.0f} s per cell" if times else "times were not recorded"
    threads = tag_values(rows, "threads")
    where = f" with {threads} thread{'' if threads == '1' else 's'} each" if threads else ""
    text = f"{cost} ({mean}){where}; machines that did other work at the same time took longer."
    return Section("Repeating it", (Paragraph(text), Paragraph(f"`{command(plan)}`")))


def command(plan: GridPlan) -> str:
    """The command line that plans exactly these cells."""
    study = plan.study
    words = ["python", f"studies/{study.name}.py", "--data", study.data, "--data-root", "DIR"]
    for factor in study.factors:
        words += [f"--{factor.name.replace('_', '-')}", *(shlex.quote(level_text(level)) for level in factor.levels)]
    words += ["--seeds", str(study.seeds)]
    words += ["--first-seed", str(study.first_seed)] if study.first_seed else []
    return " ".join([*words, "--reports", "reports"])
