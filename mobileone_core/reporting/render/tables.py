"""The page's table as CSV (plain numbers, and the paired tests beside) and as LaTeX."""

import csv
import io
import re

from mobileone_core.reporting.trained.result import Result
from mobileone_core.reporting.trained.words import Table, level_texts, published_columns
from mobileone_core.study.statistics import Comparison

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def table_csv(result: Result) -> str:
    """One line a level, in the metric's shown unit; what is missing stays empty.

    Studies of several factors have one more column a factor: factor.k and so on.
    """
    text = io.StringIO()
    others = published_columns(result)
    printed = {(value.column, value.level): value.printed for value in result.published}
    factors = [f"factor.{factor.name}" for factor in result.plan.study.factors]
    levels = level_texts(result)
    lines = []
    for row in result.analysis.comparisons:
        place = dict(zip(factors, levels[row.level], strict=True)) if len(factors) > 1 else {}
        published = {_column(*column): printed.get((column, row.level)) for column in others}
        lines.append({"level": row.level, **place, **_measured(result, row), **published})
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _measured(result: Result, row: Comparison) -> dict[str, str | float | None]:
    summary, pair = row.summary, row.paired
    own = {"mean": summary.mean, "sd": summary.sd, "mean_low": summary.low, "mean_high": summary.high}
    block = {"difference": row.difference, "low": row.low, "high": row.high, "p": row.p, "p_holm": row.p_holm}
    against = {"paired_difference": pair.difference, "paired_low": pair.low, "paired_high": pair.high}
    against |= {"paired_p": pair.p, "pairs": pair.pairs, "wins": pair.wins, "ties": pair.ties}
    if row.level == result.analysis.baseline:
        block, against = dict.fromkeys(block), dict.fromkeys(against)
    return {
        "metric": result.metric.name,
        "unit": result.metric.unit,
        "n": summary.n,
        "planned": result.plan.study.seeds,
        **own,
        **block,
        "detectable": row.detectable,
        "verdict": row.verdict,
        **against,
    }


def _column(title: str, unit: str) -> str:
    """published_s2; published_gain_over_the_previous_row_of_table_8_s2_points."""
    name = title.lower().replace(", ", "_").replace(" ", "_")
    return name if unit == "%" else f"{name}_{unit}"


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table_tex(table: Table, caption: str) -> str:
    """The table for a LaTeX document that loads booktabs."""
    lines = [[latex(title) for title, _ in table.columns], [latex(note) for _, note in table.columns]]
    rows = [[latex(cell) for cell in row] for row in table.rows]
    kinds = "".join("l" if title == "verdict" else "r" for title, _ in table.columns)
    body = [rf"{' & '.join(line)} \\" for line in [*lines, *rows]]
    return "\n".join([
        f"% {caption}",
        "% Needs the booktabs package.",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        *body[:2],
        r"\midrule",
        *body[2:],
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ])  # fmt: skip


def latex(text: str) -> str:
    """Text with LaTeX's own signs escaped; a minus before a number as mathematics."""
    escaped = "".join(LATEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
