"""A study's page in Markdown."""

from collections import Counter
from collections.abc import Sequence

from mobileone_core.reporting.figures.panels import is_drawn
from mobileone_core.reporting.published import CAVEATS
from mobileone_core.reporting.render.markdown import markdown, plain_table
from mobileone_core.reporting.trained.result import Result, told
from mobileone_core.reporting.trained.sections import (
    comparison_section,
    curves_section,
    effects_section,
    trained_section,
)
from mobileone_core.reporting.trained.words import table_of, verdict
from mobileone_core.study.factor import level_text
from mobileone_core.study.plan import Plan, PlannedCell
from mobileone_core.study.words import field_words

TEACHERS = "recipe.teachers"


def page_text(result: Result, fingerprint: str) -> str:
    """README.md of a report directory."""
    study = result.plan.study
    parts = [
        f"# {study.question}",
        f"<!-- Written by `mobileone report`; record {fingerprint}. -->",
        f"Study `{study.name}`, {study.source}. Measured: {setting(result.plan)}.",
        block_text(result),
        _legend(result),
        effects_section(result),
        _list("Errors in the record", result.problems),
        _list("Missing cells", missing_lines(result)),
        curves_section(result),
        comparison_section(result),
        "## What was trained",
        trained_section(result),
        "## Environment",
        _environment(result),
        "## Cells",
        _cells(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def setting(plan: Plan) -> str:
    """What was trained on what: tiny on digits, 5 seeds a level."""
    study = plan.study
    plural = "seed" if study.seeds == 1 else "seeds"
    fields = dict(plan.changes)
    if plan.base.recipe.teachers and not any(TEACHERS in factor.fields for factor in study.factors):
        fields.setdefault(TEACHERS, plan.base.recipe.teachers)
    changes = "".join(f", {field_words(name.partition('.')[2], value)}" for name, value in fields.items())
    return f"{study.variant} on {study.data}, recipe {study.recipe}{changes}, {study.seeds} {plural} a level"


def block_text(result: Result) -> str:
    """Verdict, table and figure between the markers that update_readme looks for."""
    name = result.plan.study.name
    figure = f"![{result.plan.study.question}](figure.png)"
    body = [f"**Verdict.** {verdict(result)}", markdown(table_of(result)), figure]
    return "\n\n".join([f"<!-- table:{name} -->", *body, f"<!-- end table:{name} -->"])


def _legend(result: Result) -> str:
    analysis, study = result.analysis, result.plan.study
    lines = [
        f"- *Measured*: mean over seeds with its 95 % t interval; sd with n - 1. {_direction(result)}",
        "- *Difference*, *verdict* and *detectable* come from one model, value = level + seed, with the residual "
        f"pooled over all cells ({analysis.df} degrees of freedom). The intervals hold all at once at 95 % (each at "
        f"{100 * analysis.confidence:.4g} %); better and worse stand where Holm's test at 5 % and the interval agree.",
        "- *Detectable*: the true difference that this many seeds would find with 80 % power.",
    ]
    if any(result.missing.values()):
        lines.append("- Cells are missing: differences compare equal seeds, and so are not those of the means.")
    if result.published:
        source = "; ".join(dict.fromkeys(value.source for value in result.published))
        lines.append(
            f"- *Published*: printed in the paper ({source}; ImageNet; no seeds, no spread), never mixed with ours. "
            f"{CAVEATS[study.published]}"
        )
        if not all(is_drawn(result, value) for value in result.published):
            lines.append(
                "- The figure has a published panel only of variants with two levels or more in the metric's unit; "
                "single values and gains stand in the table alone."
            )
    lines.append(
        f"- The same table with paired t tests and wins: `table.csv`, `table.tex`; {study.metric} is the metric."
    )
    return "\n".join(lines)


def _direction(result: Result) -> str:
    return "Higher is better." if result.metric.higher_is_better else "Lower is better."


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def missing_lines(result: Result) -> list[str]:
    seeds = result.plan.study.seeds
    return [
        f"{result.level_words(level)}: {seeds - len(cells)} of {seeds} seeds; missing "
        + ", ".join(f"seed {cell.seed} (`{cell.key}`)" for cell in cells)
        for level, cells in result.missing.items()
        if cells
    ]


def _environment(result: Result) -> str:
    """One line a tag; cells that differ are counted, not averaged away."""
    tags = [told(row) for row in result.rows.values()]
    counts: dict[str, dict[str, int]] = {}
    for name in sorted({name for tag in tags for name in tag}):
        counts[name] = dict(sorted(Counter(tag.get(name, "not recorded") for tag in tags).items()))
    if not counts:
        return "Nothing is recorded."
    table = plain_table(("tag", "value"), [(name, _values(texts)) for name, texts in counts.items()])
    differing = [name for name, texts in counts.items() if len(texts) > 1]
    warning = f"**The cells were not all measured alike: {', '.join(differing)} differ.**\n\n" if differing else ""
    return warning + table


def _values(texts: dict[str, int]) -> str:
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{text} ({count} cells)" for text, count in texts.items())


def _cells(result: Result) -> str:
    """Every cell with its run, then the teachers' where there are any; final metrics are in cells.csv."""
    plan, names = result.plan, [factor.name for factor in result.plan.study.factors]
    roles = ["role"] if plan.teachers else []
    lines = []
    for cell in (*plan.cells, *plan.teachers):
        is_level = cell.role == "cell"
        levels = (level_text(cell.factors[name]) if is_level else "" for name in names)
        role = ["cell" if is_level else f"teacher {cell.variant}"] if roles else []
        lines.append((*role, *levels, str(cell.seed), *_run(result, cell)))
    table = plain_table([*roles, *names, "seed", result.axis_label, "cell", "run"], lines)
    return f"<details><summary>All cells with their runs</summary>\n\n{table}\n\n</details>"


def _run(result: Result, cell: PlannedCell) -> tuple[str, str, str]:
    """A cell's metric, key and run."""
    row = result.rows.get(cell.key) or result.teachers.get(cell.key)
    if row is None:
        return "missing", f"`{cell.key}`", ""
    value = row.metrics[result.metric.name] * result.metric.scale
    return result.metric.number(value), f"`{cell.key}`", f"`{row.run_id}`"
