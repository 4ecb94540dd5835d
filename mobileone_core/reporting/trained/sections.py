"""Parts of a page that a study has or has not: training curves, what both forms cost, teachers."""

from mobileone_core.reporting.render.markdown import markdown, plain_table
from mobileone_core.reporting.trained.comparison import comparison_lines, comparison_table
from mobileone_core.reporting.trained.curves import curve_label, curve_table, quoted_lines
from mobileone_core.reporting.trained.description import cost_rows, forms_line, level_lines, recipe_words, teacher_rows
from mobileone_core.reporting.trained.effects import effect_lines, effects_of
from mobileone_core.reporting.trained.forms import unrest
from mobileone_core.reporting.trained.result import Result
from mobileone_core.reporting.trained.words import effects_table


def curves_section(result: Result) -> str:
    """The curves' figure and the table of their ends; that they are missing where they are."""
    metrics = result.plan.study.curves
    if not metrics:
        return ""
    names = " and ".join(curve_label(metric) for metric in metrics)
    parts, notes = ["## Training curves"], []
    if result.curves:
        parts += [f"![{names.capitalize()} over epochs](curves.png)", markdown(curve_table(result))]
        notes.append(
            "- *Last epoch*: mean over seeds with its 95 % t interval; the difference is taken seed by seed, in "
            "percent of the baseline's value. These intervals are not adjusted for the number of levels."
        )
    else:
        parts.append(f"No curve of {names} is in the record yet.")
    notes += quoted_lines(result)
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def effects_section(result: Result) -> str:
    """Main effects and interactions, where several factors vary."""
    table = effects_table(result)
    if table is None:
        return ""
    title = "## Main effects" + (" and interactions" if any(row.order > 1 for row in effects_of(result)) else "")
    return "\n\n".join([title, markdown(table), "\n".join(effect_lines(result))])


def comparison_section(result: Result) -> str:
    """What both forms cost, measured side by side; that it is not measured where it is not."""
    if result.plan.comparison is None:
        return ""
    title = "## What it costs: train form against deployed form"
    if not result.compared_forms:
        return f"{title}\n\nNot measured yet: all cells have to be complete first."
    doubt = unrest(result)
    warning = [f"**{doubt} Do not trust them.**"] if doubt else []
    return "\n\n".join([title, *warning, markdown(comparison_table(result)), "\n".join(comparison_lines(result))])


def trained_section(result: Result) -> str:
    """Recipe, what the levels set, cost of every level, teachers, and whether both forms say the same."""
    head, *rows = cost_rows(result)
    parts = [f"{recipe_words(result)}.", "\n".join(level_lines(result.plan)), plain_table(head, rows)]
    teachers = teacher_rows(result)
    if teachers:
        told = "Teachers, no level of the study; the runs of those trained first stand among all cells below:"
        parts += [told, plain_table(teachers[0], teachers[1:])]
    return "\n\n".join(part for part in [*parts, forms_line(result)] if part)
