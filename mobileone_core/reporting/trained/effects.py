"""Main effects and interactions of a study of several factors: in sentences and as CSV."""

import csv
import io
from collections.abc import Sequence

from mobileone_core.reporting.metric import Metric
from mobileone_core.reporting.trained.result import Result, cells_by_level
from mobileone_core.study.effects import Effect, effects
from mobileone_core.study.statistics import ALPHA, Comparison


def effects_of(result: Result) -> tuple[Effect, ...]:
    """The study's effects in the metric's shown unit; none where fewer than two factors vary."""
    sample = {
        label: {cell.seed: result.value(cell.key) for cell in cells if cell.key in result.rows}
        for label, cells in cells_by_level(result.plan).items()
    }
    return effects(result.plan.study, sample)


def effects_csv(result: Result) -> str:
    """One line an effect, in the metric's shown unit; what is missing stays empty. No text where there is none."""
    rows = effects_of(result)
    if not rows:
        return ""
    text = io.StringIO()
    numbers = ("difference", "low", "high", "p", "p_holm", "detectable")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["effect", "order", "metric", "unit", "confidence", *numbers, "verdict"])
    confidence = f"{1 - ALPHA / len(rows):.6g}"
    for row in rows:
        values = ("" if (value := getattr(row, name)) is None else f"{value:.6g}" for name in numbers)
        unit = result.metric.difference_unit
        writer.writerow([row.label, row.order, result.metric.name, unit, confidence, *values, row.verdict])
    return text.getvalue()


def effect_lines(result: Result) -> list[str]:
    """What the columns of the effects' table mean."""
    rows = effects_of(result)
    lines = [
        "- *Effect*: a level against its factor's baseline level, the mean over all levels of the other factors. "
        "Raises and lowers speak of the metric, whichever way is better.",
    ]
    if any(row.order > 1 for row in rows):
        lines.append(
            "- *Effect of a x b*, an interaction: by how much the effect of a changes when b is set too, which is what "
            "both together bring beyond the sum of what each brings alone (no factor 1/2); of three, the change of "
            "such a change. Where one shows, a main effect is a mean over unlike effects."
        )
    else:
        lines.append("- Interactions are estimated where every factor has two levels.")
    each = f"each at {100 * (1 - ALPHA / len(rows)):.4g} %"
    lines.append(
        f"- The model is that of the table above; Holm's test and the intervals ({each}) hold over these {len(rows)} "
        "effects, apart from the table above. As plain numbers: `effects.csv`."
    )
    return lines


def effect_sentences(result: Result) -> list[str]:
    """Which effects show, which are open, and what the seeds could have shown of the others."""
    rows = effects_of(result)
    verdicts = {row.verdict for row in rows}
    if len(verdicts) == 1 and verdicts <= _OPEN.keys() - {"borderline"}:
        return [f"No main effect is tested: {_OPEN[verdicts.pop()]}."]
    mains, interactions = [row for row in rows if row.order == 1], [row for row in rows if row.order > 1]
    return [*_sentences(result, mains, "main effect"), *_sentences(result, interactions, "interaction")]


def _sentences(result: Result, rows: Sequence[Effect], kind: str) -> list[str]:
    metric = result.metric
    told = [_shown(metric, row) for row in rows if row.verdict in ("raises", "lowers")]
    for verdict, words in _OPEN.items():
        labels = [row.label for row in rows if row.verdict == verdict]
        if labels:
            told.append(f"{joined(labels)} ({kind}{'s' if len(labels) > 1 else ''}): {words}.")
    hidden = [row for row in rows if row.verdict == "no effect shown"]
    if hidden:
        all_interactions = kind == "interaction" and len(hidden) == len(rows)
        which = "" if all_interactions else f" of {joined([row.label for row in hidden])}"
        shown = f"that {seeds_words(result.analysis.comparisons)} can show ({metric.could_find(hidden)})"
        told.append(f"No {kind}{which} {shown}.")
    return told


_OPEN = {
    "borderline": "borderline, of Holm's test and the simultaneous interval, one tells it from 0",
    "no spread": "no test, the values have no spread",
    "not enough seeds": "not enough seeds",
    "not estimable": "not estimable, a combination has no value",
}


def _shown(metric: Metric, row: Effect) -> str:
    what = row.label if row.order == 1 else f"The interaction {row.label}"
    return f"{what} {row.verdict} {metric.label}: {metric.difference(row, metric.difference_unit)}."


def seeds_words(rows: Sequence[Comparison]) -> str:
    """The seeds of the levels: 5 seeds, or 3 to 5 seeds."""
    counts = [row.summary.n for row in rows]
    low, high = min(counts), max(counts)
    return f"{low} seeds" if low == high else f"{low} to {high} seeds"


def joined(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
