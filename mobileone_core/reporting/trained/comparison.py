"""What was measured side by side: time and memory of every level in train and deployed form. No torch here."""

from collections.abc import Iterator, Mapping

from mobileone_core.reporting.trained.description import varied_fields
from mobileone_core.reporting.trained.forms import DEPLOYED, HEAD, LIMIT, TRAIN, control_ratios, has_place, is_at_rest
from mobileone_core.reporting.trained.result import FORM, Result, arm_of, told
from mobileone_core.reporting.trained.words import MISSING, Table
from mobileone_core.study.factor import level_label
from mobileone_core.study.rows import CellRow

MIB = 2**20
LOAD = "host/load"  # the load average of the minute before


def comparison_table(result: Result) -> Table:
    """A row a level in train form, then a row a level in deployed form."""
    baseline = result.level_words(result.analysis.baseline)
    against = f"to {baseline}, train form [95 %]"
    columns = (
        (result.factor_names, ""),
        ("form", ""),
        ("parameters", ""),
        ("multiply-adds", "one image"),
        ("training step, ms", "[95 %]"),
        ("step ratio", against),
        ("step ratio", "to its deployed form [95 %]"),
        ("memory of a step", "peak, MiB"),
        ("memory ratio", "to its deployed form"),
        ("inference, ms", "[95 %]"),
        ("inference ratio", against),
        ("inference ratio", "to its deployed form [95 %]"),
    )
    rows = [(label, form, *_cells(result, row)) for label, form, row in _lines(result)]
    return Table(columns, tuple(rows))


def _lines(result: Result) -> Iterator[tuple[str, str, CellRow | None]]:
    """Level and form of every row of the table, and what was measured of it."""
    for form in (TRAIN, DEPLOYED):
        for row in result.analysis.comparisons:
            yield row.level, form, result.compared_forms.get((row.level, form))


def _cells(result: Result, row: CellRow | None) -> tuple[str, ...]:
    """What was measured of one row; times only where the device is known."""
    if row is None:
        return (*[MISSING] * 2, "not measured", *[MISSING] * 7)
    metrics = {
        name: value
        for name, value in row.metrics.items()
        if not name.startswith(("time/", "memory/")) or has_place(row)
    }
    return (
        _number(metrics, "params", ",.0f"),
        _number(metrics, "macs", ",.0f"),
        _estimate(metrics, "time/step", "_ms"),
        _against(result, row, metrics, "time/step_ratio"),
        _ratio(metrics, "time/step_over_deployed"),
        _number(metrics, "memory/step_bytes", ".1f", MIB),
        _number(metrics, "memory/step_over_deployed", ".2f"),
        _estimate(metrics, "time/inference", "_ms"),
        _against(result, row, metrics, "time/inference_ratio"),
        _ratio(metrics, "time/inference_over_deployed"),
    )


def _number(metrics: Mapping[str, float], name: str, digits: str, unit: float = 1.0) -> str:
    return format(metrics[name] / unit, digits) if name in metrics else MISSING


def _estimate(metrics: Mapping[str, float], name: str, unit: str) -> str:
    """A time with its interval: three digits and more."""
    names = [name + unit, f"{name}_low{unit}", f"{name}_high{unit}"]
    texts = [f"{metrics[item]:#.3g}".rstrip(".") for item in names if item in metrics]
    return _bracketed(texts)


def _against(result: Result, row: CellRow, metrics: Mapping[str, float], name: str) -> str:
    """A ratio to the baseline's train form, whose own row says so."""
    is_baseline = level_label(arm_of(row)) == result.analysis.baseline and row.factors[FORM] == TRAIN
    return "baseline" if is_baseline else _ratio(metrics, name)


def _ratio(metrics: Mapping[str, float], name: str) -> str:
    return _bracketed([f"{metrics[item]:.2f}" for item in (name, f"{name}_low", f"{name}_high") if item in metrics])


def _bracketed(texts: list[str]) -> str:
    if not texts:
        return MISSING
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def comparison_lines(result: Result) -> list[str]:
    """Where and how the table was measured, and whether its control held."""
    rows = list(result.compared_forms.values())
    if not rows:
        return []
    lines = [f"- *Measured* side by side in one process: {_place(result, rows)}."]
    if not all(map(has_place, rows)):
        lines.append("- **Device or processor were not recorded: times and memory without them are not printed.**")
    step = (
        "" if "recipe.batch_size" in varied_fields(result.plan) else f" of {result.plan.base.recipe.batch_size} images"
    )
    return [
        *lines,
        f"- A *step* is forward, loss, backward and update on one batch{step}, without data loading; of the deployed "
        "form, trained as a plain network. An *inference* is one image, a time being the mean over 10 ms. *Memory* "
        "is the peak above what lies there before the call: activations, buffers and gradients, not parameters or the "
        "optimizer's state.",
        "- *Ratios* are taken round by round; intervals are order statistics over rounds, each at 95 %.",
        f"- *Control*: {_control(result)}",
    ]


def _place(result: Result, rows: list[CellRow]) -> str:
    """Device, processor, threads, rounds and load; what differs between rows is named in full."""
    tags = [told(row) for row in rows]
    words = []
    for name in (*HEAD, "threads", "system", "execution"):
        texts = sorted({tag[name] for tag in tags if name in tag})
        words += [f"{name} {' / '.join(texts)}"] if texts else []
    protocol = result.plan.comparison.spec.protocol if result.plan.comparison else None
    words += [f"{protocol.rounds} rounds of {protocol.burst} calls"] if protocol else []
    loads = [row.metrics[LOAD] for row in rows if LOAD in row.metrics]
    words += [f"load average {max(loads):.2f} before"] if loads else []
    return ", ".join(words)


def _control(result: Result) -> str:
    """The baseline timed twice: both columns should be one."""
    found = control_ratios(result)
    if not found:
        return "**not recorded; how far the machine was at rest is not known.**"
    told_ratios = "; ".join(f"{what} {ratio:.3f}" for what, ratio in found)
    words = (
        f"within {LIMIT}."
        if is_at_rest(found)
        else f"**not within {LIMIT}: the machine was not at rest, do not trust the times.**"
    )
    return f"the baseline timed twice, as two levels (ratio {told_ratios}): {words}"
