"""A result in sentences and in the cells of a table: one source for page, LaTeX and terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from mobileone_core.reporting.metric import Metric
from mobileone_core.reporting.result import Result, level_text
from mobileone_core.study.statistics import Comparison

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """Columns as (title, note) and rows, all as printed text."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]


def table_of(result: Result) -> Table:
    """Measured columns first, then one column a published variant."""
    metric, baseline = result.metric, result.level_words(result.analysis.baseline)
    unit = metric.difference_unit
    variants = list(dict.fromkeys(value.variant for value in result.published))
    columns = [
        (result.factor_names, ""),
        (f"measured {_with_unit(metric.label, metric.unit)}", "mean ± 95 % interval"),
        ("n", "seeds"),
        ("sd", unit),
        (_with_unit("difference", unit), "[simultaneous 95 %]"),
        ("verdict", f"against {baseline}"),
        (_with_unit("detectable", unit), "80 % power"),
    ]
    columns += [(f"published {variant.upper()}", metric.unit) for variant in variants]
    printed = {(value.variant, level_text(value.level)): value.printed for value in result.published}
    rows = []
    for row in result.analysis.comparisons:
        others = (printed.get((variant, row.level), MISSING) for variant in variants)
        rows.append((row.level, *_measured(result, row), *others))
    return Table(tuple(columns), tuple(rows))


def _measured(result: Result, row: Comparison) -> tuple[str, ...]:
    metric, summary, planned = result.metric, row.summary, result.plan.study.seeds
    mean = MISSING if summary.mean is None else metric.number(summary.mean)
    if summary.mean is not None and summary.high is not None:
        mean += f" ± {metric.number(summary.high - summary.mean)}"
    return (
        mean,
        str(summary.n) if summary.n == planned else f"{summary.n} of {planned}",
        MISSING if summary.sd is None else metric.number(summary.sd),
        _difference(metric, row),
        row.verdict,
        MISSING if row.detectable is None else metric.number(row.detectable),
    )


def _difference(metric: Metric, row: Comparison) -> str:
    if row.difference is None:
        return MISSING
    if row.low is None or row.high is None:
        return metric.signed(row.difference)
    return f"{metric.signed(row.difference)} [{metric.signed(row.low)}, {metric.signed(row.high)}]"


def verdict(result: Result) -> str:
    """The answer in words: what is better or worse than the baseline, what n seeds cannot show, what is open."""
    kinds: dict[str, list[Comparison]] = {}
    for row in result.compared:
        kinds.setdefault(row.verdict, []).append(row)
    baseline = result.level_words(result.analysis.baseline)
    told = [*kinds.get("better", []), *kinds.get("worse", [])]
    sentences = [
        f"{result.level_words(row.level)} is {row.verdict} than {baseline}: {_shown(result, row)}." for row in told
    ]
    if not result.compared:
        sentences.append("One level alone: nothing to compare.")
    elif len(kinds.get("no difference shown", [])) == len(result.compared):
        sentences.append("No effect shown.")
    sentences += [f"{_levels(result, rows)}: {_OPEN[kind]}" for kind, rows in kinds.items() if kind in _OPEN]
    if "no difference shown" in kinds:
        sentences.append(_not_shown(result, kinds["no difference shown"]))
    if any(result.missing.values()):
        sentences.append(f"Not complete: {len(result.rows)} of {len(result.plan.cells)} cells are in.")
    return " ".join(sentences)


_OPEN = {
    "borderline": "borderline (of Holm's test and the simultaneous interval, one tells it from the baseline).",
    "no spread": "no test, the values have no spread.",
    "not enough seeds": "not enough seeds.",
}


def _shown(result: Result, row: Comparison) -> str:
    text = _difference(result.metric, row)
    return text.replace(" [", f" {result.metric.difference_unit} [" if result.metric.difference_unit else " [")


def _not_shown(result: Result, rows: Sequence[Comparison]) -> str:
    metric, seeds = result.metric, _seeds([row.summary.n for row in rows])
    sizes = sorted(row.detectable for row in rows if row.detectable is not None)
    least, most = metric.number(sizes[0]), metric.amount(sizes[-1])
    size = most if metric.amount(sizes[0]) == most else f"{least} to {most}"
    baseline = result.level_words(result.analysis.baseline)
    able = f"a true one of {size} would be found with 80 % power"
    return f"{_levels(result, rows)}: no difference from {baseline} that {seeds} can show ({able})."


def _levels(result: Result, rows: Sequence[Comparison]) -> str:
    names = [row.level for row in rows]
    if len(result.plan.study.factors) > 1:
        return "; ".join(names)
    joined = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{result.factor_names} = {joined}"


def _seeds(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low} seeds" if low == high else f"{low} to {high} seeds"


def _with_unit(text: str, unit: str) -> str:
    return f"{text}, {unit}" if unit else text
