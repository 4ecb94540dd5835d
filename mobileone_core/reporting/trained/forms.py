"""What the comparison of train and deployed form found, in sentences, and whether its control held. No torch here."""

from collections.abc import Sequence

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE
from mobileone_core.reporting.trained.result import Result
from mobileone_core.study.rows import CellRow

TRAIN, DEPLOYED = "train", "deployed"
CONTROLS = (("training step", "control/step_ratio"), ("inference", "control/inference_ratio"))
HEAD = ("device", "processor")  # without them no time is printed
LIMIT = f"{100 * CONTROL_TOLERANCE:.0f} %"


def has_place(row: CellRow) -> bool:
    """Whether the record says where a row was measured."""
    return all(row.environment.get(name) for name in HEAD)


def control_ratios(result: Result) -> list[tuple[str, float]]:
    """The baseline timed twice, one call against the other: what was called, and the ratio, which should be 1."""
    return [
        (f"{what}, {form} form", row.metrics[name])
        for (_, form), row in result.compared_forms.items()
        for what, name in CONTROLS
        if name in row.metrics
    ]


def is_at_rest(ratios: Sequence[tuple[str, float]]) -> bool:
    """Whether every ratio is near enough to 1; False where there is none."""
    return bool(ratios) and all(abs(ratio - 1) <= CONTROL_TOLERANCE for _, ratio in ratios)


def unrest(result: Result) -> str:
    """A sentence where the comparison's times are not to be trusted; empty where they are, or where there are none."""
    rows, ratios = result.compared_forms.values(), control_ratios(result)
    if is_at_rest(ratios) or not any(name.startswith("time/") for row in rows for name in row.metrics):
        return ""
    why = f"the baseline timed twice does not agree within {LIMIT}" if ratios else "there is no control of them"
    return f"Times were not measured at rest: {why}."


def cost_sentences(result: Result) -> list[str]:
    """What the largest level costs in training against the baseline, and what all cost deployed.

    Nothing where it is not measured or its place is not known; a warning alone where its control did not hold.
    """
    rows = result.compared_forms.values()
    if not rows or not all(map(has_place, rows)):
        return []
    if not is_at_rest(control_ratios(result)):
        return [text for text in [unrest(result)] if text]
    return [text for text in (_training(result), _deployed(result)) if text]


def _training(result: Result) -> str:
    """The step of the level with most parameters in train form, its ratio taken round by round."""
    base = result.compared_forms.get((result.analysis.baseline, TRAIN))
    names = ("time/step_ratio", "time/step_ratio_low", "time/step_ratio_high")
    others = {
        row.level: found
        for row in result.compared
        if (found := result.compared_forms.get((row.level, TRAIN))) and {"params", *names} <= found.metrics.keys()
    }
    if base is None or not others:
        return ""
    level = max(others, key=lambda level: others[level].metrics["params"])
    row = others[level]
    ratio, low, high = (f"{row.metrics[name]:.2f}" for name in names)
    bytes_needed, bytes_of_base = (item.metrics.get("memory/step_bytes", 0.0) for item in (row, base))
    memory = f", in {bytes_needed / bytes_of_base:.2f} times the memory" if bytes_needed and bytes_of_base else ""
    place = f"{row.environment['device']}, {row.environment['processor']}"
    baseline = result.level_words(result.analysis.baseline)
    step = f"a training step of {result.level_words(level)} takes {ratio} [{low}, {high}] times that of {baseline}"
    return f"Measured on {place}: {step}{memory}."


def _deployed(result: Result) -> str:
    """Parameters, multiply-adds and time of all levels in deployed form."""
    found = [result.compared_forms.get((row.level, DEPLOYED)) for row in result.analysis.comparisons]
    rows = [row.metrics for row in found if row is not None and {"params", "macs"} <= row.metrics.keys()]
    if len(rows) < max(2, len(found)):
        return ""
    counts = [sorted({row[name] for row in rows}) for name in ("params", "macs")]
    have = "all levels have the same" if all(len(values) == 1 for values in counts) else "the levels have"
    params, macs = (_span([f"{value:,.0f}" for value in values]) for values in counts)
    times = sorted(row["time/inference_ms"] for row in rows if "time/inference_ms" in row)
    spent = _span([f"{value:#.3g}".rstrip(".") for value in times])
    took = f"; an inference of one image takes {spent} ms" if len(times) == len(rows) else ""
    return f"Deployed, {have} {params} parameters and {macs} multiply-adds{took}."


def _span(rising: Sequence[str]) -> str:
    """3, or 3 to 5."""
    return " to ".join(dict.fromkeys([*rising[:1], *rising[-1:]]))
