"""A study's page in Markdown."""

from collections.abc import Sequence

from mobileone_core.reporting.result import Result, level_text, told
from mobileone_core.reporting.trained import cost_rows, recipe_words
from mobileone_core.reporting.words import Table, table_of, verdict
from mobileone_core.study.declaration import Plan


def page_text(result: Result, fingerprint: str) -> str:
    """README.md of a report directory."""
    study = result.plan.study
    parts = [
        f"# {study.question}",
        f"<!-- Written by `mobileone report`; record {fingerprint}. -->",
        f"Study `{study.name}`, {study.source}. Measured: {setting(result.plan)}.",
        block_text(result),
        _legend(result),
        _list("Errors in the record", result.problems),
        _list("Missing cells", missing_lines(result)),
        "## What was trained",
        _trained(result),
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
    changes = "".join(f", {name.partition('.')[2]} {level_text(value)}" for name, value in plan.changes.items())
    return f"{study.variant} on {study.data}, recipe {study.recipe}{changes}, {study.seeds} {plural} a level"


def block_text(result: Result) -> str:
    """Verdict, table and figure between the markers that update_readme looks for."""
    name = result.plan.study.name
    figure = f"![{result.plan.study.question}](figure.png)"
    body = [f"**Verdict.** {verdict(result)}", markdown(table_of(result)), figure]
    return "\n\n".join([f"<!-- table:{name} -->", *body, f"<!-- end table:{name} -->"])


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown; text left, numbers right."""
    heads = [f"{title}<br>{note}" if note else title for title, note in table.columns]
    signs = ["---" if title == "verdict" else "--:" for title, _ in table.columns]
    return "\n".join(_line(cells) for cells in (heads, signs, *table.rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


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
            f"- *Published*: printed in the paper ({source}; ImageNet; no seeds, no spread), never mixed with ours."
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


def _trained(result: Result) -> str:
    head, *rows = cost_rows(result)
    lines = [_line(head), _line(["--:"] * len(head)), *map(_line, rows)]
    return "\n".join([f"{recipe_words(result)}.", "", *lines])


def _environment(result: Result) -> str:
    """One line a tag; cells that differ are counted, not averaged away."""
    tags = [told(row) for row in result.rows.values()]
    counts: dict[str, dict[str, int]] = {}
    for name in sorted({name for tag in tags for name in tag}):
        texts = sorted(tag.get(name, "not recorded") for tag in tags)
        counts[name] = {text: texts.count(text) for text in dict.fromkeys(texts)}
    if not counts:
        return "Nothing is recorded."
    lines = [_line(["tag", "value"]), _line(["---", "---"])]
    lines += [_line([name, _values(texts)]) for name, texts in counts.items()]
    differing = [name for name, texts in counts.items() if len(texts) > 1]
    warning = f"**The cells were not all measured alike: {', '.join(differing)} differ.**\n\n" if differing else ""
    return warning + "\n".join(lines)


def _values(texts: dict[str, int]) -> str:
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{text} ({count} cells)" for text, count in texts.items())


def _cells(result: Result) -> str:
    """Every cell with its run, and its final metrics in cells.csv."""
    names = [factor.name for factor in result.plan.study.factors]
    metric = result.metric
    heads = [*names, "seed", f"{metric.label}, {metric.unit}".rstrip(", "), "cell", "run"]
    lines = [_line(heads), _line(["--:"] * (len(heads) - 2) + ["---", "---"])]
    for cell in result.plan.cells:
        row = result.rows.get(cell.key)
        value, run = ("missing", "") if row is None else (metric.number(result.value(cell.key)), f"`{row.run_id}`")
        lines.append(
            _line([*(level_text(cell.factors[name]) for name in names), str(cell.seed), value, f"`{cell.key}`", run])
        )
    return "\n".join(["<details><summary>All cells with their runs</summary>", "", *lines, "", "</details>"])
