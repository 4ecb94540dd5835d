"""A result in sentences and in the cells of a table: one source for page, LaTeX and terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from mobileone_core.reporting.trained.effects import effect_sentences, effects_of, joined, seeds_words
from mobileone_core.reporting.trained.forms import cost_sentences
from mobileone_core.reporting.trained.result import Result
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.statistics import Comparison, Contrast

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """Columns as (title, note) and rows, all as printed text."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]


def table_of(result: Result) -> Table:
    """A column a factor, the measured columns, then one column a published variant."""
    several = len(result.plan.study.factors) > 1
    baseline = "the baseline" if several else result.level_words(result.analysis.baseline)
    metric = result.metric
    columns = [
        *((factor.name, "") for factor in result.plan.study.factors),
        (f"measured {_with_unit(metric.label, metric.unit)}", "mean ± 95 % interval"),
        ("n", "seeds"),
        ("sd", metric.difference_unit),
        *_contrast_columns(result, "difference", f"against {baseline}"),
    ]
    printed = {(value.column, value.level): value.printed for value in result.published}
    others = published_columns(result)
    levels = level_texts(result)
    rows = [
        (*levels[row.level], *_measured(result, row), *(printed.get((column, row.level), MISSING) for column in others))
        for row in result.analysis.comparisons
    ]
    return Table((*columns, *others), tuple(rows))


def published_columns(result: Result) -> list[tuple[str, str]]:
    """Title and unit of every published column, those in the metric's unit first."""
    columns = dict.fromkeys(value.column for value in result.published)
    return sorted(columns, key=lambda column: column[1] != result.metric.unit)


def level_texts(result: Result) -> dict[str, tuple[str, ...]]:
    """The printed levels of every arm, factor by factor, by the arm's label."""
    return {level_label(arm): tuple(map(level_text, arm.values())) for arm in result.plan.study.arms}


def effects_table(result: Result) -> Table | None:
    """Main effects and interactions; None where the study varies fewer than two factors."""
    rows = effects_of(result)
    columns = (("effect", ""), *_contrast_columns(result, "estimate", f"on {result.metric.label}"))
    return Table(columns, tuple((row.label, *_contrast(result, row)) for row in rows)) if rows else None


def _contrast_columns(result: Result, title: str, of_verdict: str) -> tuple[tuple[str, str], ...]:
    unit = result.metric.difference_unit
    return (
        (_with_unit(title, unit), "[simultaneous 95 %]"),
        ("verdict", of_verdict),
        (_with_unit("detectable", unit), "80 % power"),
    )


def _contrast(result: Result, row: Contrast) -> tuple[str, str, str]:
    detectable = MISSING if row.detectable is None else result.metric.number(row.detectable)
    return result.metric.difference(row) or MISSING, row.verdict, detectable


def _measured(result: Result, row: Comparison) -> tuple[str, ...]:
    metric, summary, planned = result.metric, row.summary, result.plan.study.seeds
    mean = MISSING if summary.mean is None else metric.number(summary.mean)
    if summary.mean is not None and summary.high is not None:
        mean += f" ± {metric.number(summary.high - summary.mean)}"
    count = str(summary.n) if summary.n == planned else f"{summary.n} of {planned}"
    return (mean, count, MISSING if summary.sd is None else metric.number(summary.sd), *_contrast(result, row))


def verdict(result: Result) -> str:
    """The answer in words: what shows, what n seeds cannot show, what is open; effects where factors are several.

    What it costs stands beside where it was measured side by side.
    """
    effects = effect_sentences(result)
    sentences = [*effects, *_counted(result)] if effects else _by_level(result)
    sentences += cost_sentences(result)
    if any(result.missing.values()):
        sentences.append(f"Not complete: {len(result.rows)} of {len(result.plan.cells)} cells are in.")
    return " ".join(sentences)


def _counted(result: Result) -> list[str]:
    """How many combinations are better or worse than the baseline: the table says which."""
    verdicts = [row.verdict for row in result.compared]
    counts = [f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts)]
    return [f"Of {len(verdicts)} combinations against {result.analysis.baseline}: {', '.join(counts)}."]


def _by_level(result: Result) -> list[str]:
    """Every level against the baseline."""
    kinds: dict[str, list[Comparison]] = {}
    for row in result.compared:
        kinds.setdefault(row.verdict, []).append(row)
    baseline = result.level_words(result.analysis.baseline)
    sentences = [
        f"{result.level_words(row.level)} is {row.verdict} than {baseline}: "
        f"{result.metric.difference(row, result.metric.difference_unit)}."
        for row in (*kinds.get("better", []), *kinds.get("worse", []))
    ]
    if not result.compared:
        sentences.append("One level alone: nothing to compare.")
    elif len(kinds.get("no difference shown", [])) == len(result.compared):
        sentences.append("No effect shown.")
    sentences += [f"{_levels(result, rows)}: {_OPEN[kind]}" for kind, rows in kinds.items() if kind in _OPEN]
    if "no difference shown" in kinds:
        rows = kinds["no difference shown"]
        shown = f"no difference from {baseline} that {seeds_words(rows)} can show ({result.metric.could_find(rows)})"
        sentences.append(f"{_levels(result, rows)}: {shown}.")
    return sentences


_OPEN = {
    "borderline": "borderline (of Holm's test and the simultaneous interval, one tells it from the baseline).",
    "no spread": "no test, the values have no spread.",
    "not enough seeds": "not enough seeds.",
}


def _levels(result: Result, rows: Sequence[Comparison]) -> str:
    names = [row.level for row in rows]
    if len(result.plan.study.factors) > 1:
        return "; ".join(names)
    return f"{result.factor_names} = {joined(names)}"


def _with_unit(text: str, unit: str) -> str:
    return f"{text}, {unit}" if unit else text
