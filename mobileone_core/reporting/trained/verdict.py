"""The answer of a grid study in sentences: what n seeds show, what they cannot show, and what it costs."""

from collections.abc import Sequence

from mobileone_core.reporting.document import joined
from mobileone_core.reporting.trained.comparison import cost_sentences
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.effects import Effect
from mobileone_core.study.statistics import Comparison

_OPEN = {
    "borderline": "borderline (only one of Holm's test and the simultaneous interval finds a difference)",
    "no spread": "not tested, the values have no spread",
    "not enough seeds": "not enough seeds",
    "not estimable": "not estimable, a combination has no value",
}


def verdict(result: TrainedResult) -> str:
    """Return effects where the study has several factors, else each level against the baseline; then costs and gaps."""
    sentences = [*_effects(result), *_counted(result)] if result.effects else _by_level(result)
    sentences += cost_sentences(result)
    if any(result.missing.values()):
        sentences.append(f"Incomplete: {len(result.rows)} of {len(result.plan.cells)} cells are recorded.")
    return " ".join(sentences)


def _effects(result: TrainedResult) -> list[str]:
    """Main effects, then interactions: those that show, those that are open, those that the seeds do not show."""
    verdicts = {row.verdict for row in result.effects}
    if len(verdicts) == 1 and verdicts <= _OPEN.keys() - {"borderline"}:
        return [f"No main effect is tested: {_OPEN[verdicts.pop()]}."]
    mains = [row for row in result.effects if row.order == 1]
    interactions = [row for row in result.effects if row.order > 1]
    return [*_of_order(result, mains, "main effect"), *_of_order(result, interactions, "interaction")]


def _of_order(result: TrainedResult, rows: Sequence[Effect], kind: str) -> list[str]:
    metric = result.metric
    sentences = [
        f"{'The interaction ' if row.order > 1 else ''}{row.label} {row.verdict} {metric.label}: "
        f"{metric.difference(row, metric.difference_unit)}."
        for row in rows
        if row.verdict in ("raises", "lowers")
    ]
    for verdict_, text in _OPEN.items():
        labels = [row.label for row in rows if row.verdict == verdict_]
        if labels:
            sentences.append(f"{joined(labels)} ({kind}{'s' if len(labels) > 1 else ''}): {text}.")
    hidden = [row for row in rows if row.verdict == "no effect shown"]
    if hidden:
        which = (
            "" if kind == "interaction" and len(hidden) == len(rows) else f" of {joined([row.label for row in hidden])}"
        )
        seeds = _seeds(result.analysis.comparisons)
        sentences.append(f"{seeds} show no {kind}{which} ({metric.detectable_text(hidden)}).")
    return sentences


def _counted(result: TrainedResult) -> list[str]:
    """How many combinations are better or worse than the baseline; the table says which."""
    verdicts = [row.verdict for row in result.compared]
    counts = [f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts)]
    return [f"{len(verdicts)} combinations against {result.analysis.baseline}: {', '.join(counts)}."]


def _by_level(result: TrainedResult) -> list[str]:
    """Every level against the baseline."""
    groups: dict[str, list[Comparison]] = {}
    for row in result.compared:
        groups.setdefault(row.verdict, []).append(row)
    baseline = result.level_name(result.analysis.baseline)
    sentences = [
        f"{result.level_name(row.level)} is {row.verdict} than {baseline}: "
        f"{result.metric.difference(row, result.metric.difference_unit)}."
        for row in (*groups.get("better", []), *groups.get("worse", []))
    ]
    unshown = groups.get("no difference shown", [])
    if not result.compared:
        sentences.append("Only one level: nothing to compare.")
    elif len(unshown) == len(result.compared):
        sentences.append("No effect shown.")
    sentences += [f"{_levels(result, rows)}: {_OPEN[kind]}." for kind, rows in groups.items() if kind in _OPEN]
    if unshown:
        power = result.metric.detectable_text(unshown)
        sentences.append(f"{_levels(result, unshown)}: {_seeds(unshown)} show no difference from {baseline} ({power}).")
    return sentences


def _levels(result: TrainedResult, rows: Sequence[Comparison]) -> str:
    names = [row.level for row in rows]
    if len(result.plan.study.factors) > 1:
        return "; ".join(names)
    return f"{result.factor_names} = {joined(names)}"


def _seeds(rows: Sequence[Comparison]) -> str:
    """The seeds of the levels: 5 seeds, or 3 to 5 seeds."""
    counts = [row.summary.n for row in rows]
    low, high = min(counts), max(counts)
    return f"{low} seeds" if low == high else f"{low} to {high} seeds"
