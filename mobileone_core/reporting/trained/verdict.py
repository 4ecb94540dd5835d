"""The answer of a grid study in sentences: what n seeds show, what they cannot show, and what it costs."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from mobileone_core.reporting.document import joined
from mobileone_core.reporting.trained.comparison import cost_sentences
from mobileone_core.reporting.trained.quantized import int8_sentences
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.untrained import untrained_sentences
from mobileone_core.study.factor import level_label
from mobileone_core.study.plan import span
from mobileone_core.study.statistics import Comparison

_OPEN = {
    "borderline": "borderline (only one of Holm's test and the simultaneous interval finds a difference)",
    "no spread": "not tested, the values have no spread",
    "not enough seeds": "not enough seeds",
    "not estimable": "not estimable, a combination has no value",
    "not trained": "not compared, networks were not trained",
    "too few steps": "no difference is shown, which so few steps may hide",
}


def verdict(result: TrainedResult) -> str:
    """Return effects where the study has several factors, else each level against the baseline; then costs and gaps."""
    cells = {result.level_name(label): cells for label, cells in result.levels.items()}
    sentences = untrained_sentences(cells, result.rows)
    within = result.plan.study.within
    answers = _effects(result) if result.effects else []
    answers += _by_level(result) if within or not result.effects else []
    sentences += int8_sentences(result) or answers
    if result.effects and not within:
        counts = ", ".join(f"{n} {name}" for name, n in Counter(row.verdict for row in result.compared).items())
        sentences.append(f"{len(result.compared)} combinations against {result.analysis.baseline}: {counts}.")
    sentences += cost_sentences(result)
    if any(result.missing.values()):
        sentences.append(f"Incomplete: {len(result.rows)} of {len(result.plan.cells)} cells are recorded.")
    return " ".join(sentences)


def _effects(result: TrainedResult) -> list[str]:
    """Main effects, then interactions: those that show, those that are open, those that the seeds do not show."""
    verdicts, metric = {row.verdict for row in result.effects}, result.metric
    if len(verdicts) == 1 and verdicts <= _OPEN.keys() - {"borderline"}:
        return [f"No main effect is tested: {_OPEN[verdicts.pop()]}."]
    sentences = []
    for kind in ("main effect", "interaction"):
        rows = [row for row in result.effects if (row.order == 1) == (kind == "main effect")]
        for row in (row for row in rows if row.verdict in ("raises", "lowers")):
            label = row.label if row.order == 1 else f"The interaction {row.label}"
            sentences.append(f"{label} {row.verdict} {metric.label}: {metric.difference(row, with_unit=True)}.")
        for name, text in _OPEN.items():
            if labels := [row.label for row in rows if row.verdict == name]:
                sentences.append(f"{joined(labels)} ({kind}{'s' if len(labels) > 1 else ''}): {text}.")
        if hidden := [row for row in rows if row.verdict == "no effect shown"]:
            is_all = kind == "interaction" and len(hidden) == len(rows)
            which = "" if is_all else f" of {joined([row.label for row in hidden])}"
            power = metric.detectable_text(hidden)
            sentences.append(f"{_seeds(result.analysis.comparisons)} show no {kind}{which} ({power}).")
    return sentences


def _by_level(result: TrainedResult) -> list[str]:
    groups = defaultdict[str, list[Comparison]](list)
    for row in result.compared:
        groups[row.verdict].append(row)
    study, metric = result.plan.study, result.metric
    base = {name: level for name, level in study.baseline.items() if name != study.within}
    baseline = result.level_name(level_label(base))
    sentences = [
        f"{result.level_name(row.level)} is {row.verdict} than {baseline}: {metric.difference(row, with_unit=True)}."
        for row in (*groups["better"], *groups["worse"])
    ]
    unshown = groups["no difference shown"]
    if not result.compared:
        sentences.append("Only one level: nothing to compare.")
    elif len(unshown) == len(result.compared):
        sentences.append("No effect shown.")
    sentences += [f"{_levels(result, rows)}: {_OPEN[kind]}." for kind, rows in groups.items() if kind in _OPEN]
    if unshown:
        power = metric.detectable_text(unshown)
        sentences.append(f"{_levels(result, unshown)}: {_seeds(unshown)} show no difference from {baseline} ({power}).")
    return sentences


def _levels(result: TrainedResult, rows: Sequence[Comparison]) -> str:
    names = [row.level for row in rows]
    return "; ".join(names) if len(result.factors) > 1 else f"{result.factor_names} = {joined(names)}"


def _seeds(rows: Sequence[Comparison]) -> str:
    """The seeds of the levels: 5 seeds, or 3 to 5 seeds."""
    return f"{span(row.summary.n for row in rows)} seeds"
