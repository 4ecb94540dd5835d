"""The comparison of levels: time and memory in train and deployed form, or latency as exported; and its control."""

from collections.abc import Mapping

from mobileone_core.reporting.document import MISSING, Bullets, Column, Paragraph, Section, Table, number_text
from mobileone_core.reporting.environment import DEVICE_TAGS, TOLERANCE, is_within_tolerance, names_device, tag_values
from mobileone_core.reporting.trained.result import DEPLOYED, TRAIN, TrainedResult
from mobileone_core.study.plan import span

CONTROLS = (("training step", "control/step_ratio"), ("inference", "control/inference_ratio"))


def comparison_section(result: TrainedResult) -> Section:
    """The section of a study that compares forms or latencies, empty for others."""
    heading = "What it costs: train form against deployed form"
    heading = "Latency of the whole deployed network" if _is_latency(result) else heading
    if not result.compared_forms:
        text = "Not measured yet: all cells have to be complete first." if result.plan.study.compares else ""
        return Section(heading, (Paragraph(text),) if text else ())
    doubt = _doubt(result)
    warning = Paragraph(f"**{doubt} Do not trust them; --again measures once more.**" if doubt else "")
    return Section(heading, (warning, comparison_table(result), Bullets(_notes(result))))


def _is_latency(result: TrainedResult) -> bool:
    """Whether the networks are timed as they are exported, which have no other form."""
    return result.plan.study.compares == "latency"


def comparison_table(result: TrainedResult) -> Table:
    """A row per level in train form, then a row per level in deployed form."""
    forms = (DEPLOYED,) if _is_latency(result) else (TRAIN, DEPLOYED)
    entries = [(level.level, form) for form in forms for level in result.analysis.comparisons]
    measured = [_measurements(result, *entry) for entry in entries]
    if _is_latency(result):
        measured = [[columns[index] for index in (0, 1, 7, 8)] for columns in measured]
    columns = (Column(result.factor_names), Column("form", is_text=True), *(column for column, _ in measured[0]))
    rows = ((*entry, *(text for _, text in texts)) for entry, texts in zip(entries, measured, strict=True))
    return Table(columns, tuple(rows), labels=2)


def _measurements(result: TrainedResult, level: str, form: str) -> list[tuple[Column, str]]:
    """Columns with the texts of a level in a form; times only where the device is recorded."""
    row = result.compared_forms.get((level, form))
    hidden = () if row and names_device(row) else ("time/", "memory/")
    metrics = {name: value for name, value in row.metrics.items() if not name.startswith(hidden)} if row else {}
    base = result.analysis.baseline
    reference = DEPLOYED if _is_latency(result) else TRAIN
    to_base = f"to {result.level_name(base)}, {reference} form [95 %]"
    step, inference = (_interval(metrics, f"time/{call}_ratio") for call in ("step", "inference"))
    if row and (level, form) == (base, reference):
        step = inference = "baseline"
    return [
        (Column("parameters"), _number(metrics, "params", ",.0f")),
        (Column("multiply-adds", "per image"), _number(metrics, "macs", ",.0f")),
        (Column("training step, ms", "[95 %]"), _interval(metrics, "time/step", "_ms") if row else "not measured"),
        (Column("step ratio", to_base), step),
        (Column("step ratio", "to its deployed form [95 %]"), _interval(metrics, "time/step_over_deployed")),
        (Column("memory of a step", "peak, MiB"), _number(metrics, "memory/step_bytes", ".1f", 2**20)),
        (Column("memory ratio", "to its deployed form"), _number(metrics, "memory/step_over_deployed", ".2f")),
        (Column("inference, ms", "[95 %]"), _interval(metrics, "time/inference", "_ms")),
        (Column("inference ratio", to_base), inference),
        (Column("inference ratio", "to its deployed form [95 %]"), _interval(metrics, "time/inference_over_deployed")),
    ]


def latencies(result: TrainedResult) -> dict[str, str]:
    """Milliseconds of every level's network as exported, as text; empty if they are not measured on an idle machine."""
    rows = {level: row for (level, _), row in result.compared_forms.items() if names_device(row)}
    is_shown = _is_latency(result) and _is_idle(result)
    return {level: number_text(row.metrics["time/inference_ms"]) for level, row in rows.items()} if is_shown else {}


def _number(metrics: Mapping[str, float], name: str, digits: str, unit: float = 1.0) -> str:
    return format(metrics[name] / unit, digits) if name in metrics else MISSING


def _interval(metrics: Mapping[str, float], name: str, unit: str = "") -> str:
    """A value with its interval where all three are recorded: times with three digits, ratios with two decimals."""
    values = [metrics[item] for end in ("", "_low", "_high") if (item := f"{name}{end}{unit}") in metrics]
    texts = [number_text(value) if unit else f"{value:.2f}" for value in values]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else (texts or [MISSING])[0]


def _notes(result: TrainedResult) -> list[str]:
    """Where and how the table was measured, and whether its control held."""
    rows = list(result.compared_forms.values())
    tags = {name: tag_values(rows, name) for name in (*DEVICE_TAGS, "threads", "system", "execution")}
    protocol = result.plan.study.protocol
    conditions = [f"{name} {values}" for name, values in tags.items() if values]
    conditions.append(f"{protocol.rounds} rounds of {protocol.burst} calls")
    if loads := [row.metrics["host/load"] for row in rows if "host/load" in row.metrics]:
        conditions.append(f"load average {max(loads):.2f} before")
    unnamed = "**Device or processor is not recorded: times and memory are not shown without them.**"
    batch = "" if "recipe.batch_size" in result.varied else f" of {result.plan.base.recipe.batch_size} images"
    ratios = "; ".join(f"{call} {ratio:.3f}" for call, ratio in _control_ratios(result).items())
    doubt = f"**not within {TOLERANCE}: the machine was not idle, do not trust the times.**"
    held = f"within {TOLERANCE}." if _is_idle(result) else doubt
    control = f"the baseline timed twice, as two levels (ratio {ratios}): {held}"
    if not ratios:
        control = "**not recorded; whether the machine was idle is unknown.**"
    calls = (
        f"*Step*: forward, loss, backward and update on one batch{batch}, without data loading; the deployed form is "
        "trained as a plain network. *Inference*: one image, the mean over 10 ms. *Memory*: the peak above what was "
        "allocated before the call, that is activations, buffers and gradients without parameters and the optimizer's "
        "state."
    )
    if _is_latency(result):
        calls = "*Inference*: one image, the mean over 10 ms, in ONNX Runtime: backbone and head as `mobileone export` "
        calls += "writes them, a detector before NMS; parameters without those of the head's norms, which are folded."
        if any(cell.spec.is_quantized for cell in result.plan.cells):
            calls += " int8 networks are quantized as `mobileone export --quantize int8` does."
    return [
        f"*Measured* side by side in one process: {', '.join(conditions)}.",
        *([] if all(map(names_device, rows)) else [unnamed]),
        calls,
        "*Ratios* are taken round by round; intervals are order statistics over rounds, each at 95 %.",
        f"*Control*: {control}",
    ]


def _control_ratios(result: TrainedResult) -> dict[str, float]:
    """The ratios of the baseline to its own copy, which should be 1, by what was called."""
    return {
        f"{call}, {form} form": row.metrics[name]
        for (_, form), row in result.compared_forms.items()
        for call, name in CONTROLS
        if name in row.metrics
    }


def _is_idle(result: TrainedResult) -> bool:
    """Whether there is a control and all its ratios are within tolerance."""
    ratios = _control_ratios(result).values()
    return bool(ratios) and all(map(is_within_tolerance, ratios))


def _doubt(result: TrainedResult) -> str:
    """Why the times are not to be trusted; empty where they are, or where there are none."""
    has_times = any(name.startswith("time/") for row in result.compared_forms.values() for name in row.metrics)
    if _is_idle(result) or not has_times:
        return ""
    failed = f"the baseline timed twice differs by more than {TOLERANCE}"
    why = failed if _control_ratios(result) else "they have no control"
    return f"Times were not measured on an idle machine: {why}."


def cost_sentences(result: TrainedResult) -> list[str]:
    """The cost of the slowest level in training against the baseline, and of all levels deployed.

    Empty where it is not measured or the device not recorded; only a warning where the control did not hold.
    """
    rows = result.compared_forms.values()
    if not rows or not all(map(names_device, rows)):
        return []
    training = _own_training(result) if result.plan.study.within else _training(result)
    sentences = (training, _deployed(result)) if _is_idle(result) else (_doubt(result),)
    return [text for text in sentences if text]


def _training(result: TrainedResult) -> str:
    """The slowest step of a level in train form."""
    forms = {level: row for (level, form), row in result.compared_forms.items() if form == TRAIN}
    base = forms.pop(result.analysis.baseline, None)
    others = {level: row for level, row in forms.items() if "time/step_ratio" in row.metrics}
    if base is None or not others:
        return ""
    level, row = max(others.items(), key=lambda item: item[1].metrics["time/step_ratio"])
    ratio = _interval(row.metrics, "time/step_ratio")
    memory, memory_of_base = (item.metrics.get("memory/step_bytes", 0.0) for item in (row, base))
    share = f", and {memory / memory_of_base:.2f} times the memory" if memory and memory_of_base else ""
    device = ", ".join(row.environment[name] for name in DEVICE_TAGS)
    return (
        f"On {device} a training step with {result.level_name(level)} takes {ratio} times as long as with "
        f"{result.level_name(result.analysis.baseline)}{share}."
    )


def _own_training(result: TrainedResult) -> str:
    """The step of every level but baselines, in units of its own deployed form; empty where no step is measured."""
    levels = {(row.level, TRAIN) for row in result.compared}
    rows = [row.metrics for entry, row in result.compared_forms.items() if entry in levels]
    if not rows:
        return ""
    step, memory = (span((row[f"{name}/step_over_deployed"] for row in rows), ".2f") for name in ("time", "memory"))
    return f"Baselines apart, a training step takes {step} times as long as deployed, {memory} times the memory."


def _deployed(result: TrainedResult) -> str:
    """Parameters, multiply-adds and time of all levels in deployed form."""
    rows = [row.metrics for (_, form), row in result.compared_forms.items() if form == DEPLOYED]
    rows = [metrics for metrics in rows if {"params", "macs"} <= metrics.keys()]
    if len(rows) < max(2, len(result.levels)):
        return ""
    counts = [{row[name] for row in rows} for name in ("params", "macs")]
    have = "all levels have the same" if all(len(values) == 1 for values in counts) else "the levels have"
    params, macs = (span(values, ",.0f") for values in counts)
    times = [row["time/inference_ms"] for row in rows if "time/inference_ms" in row]
    took = " to ".join(dict.fromkeys(map(number_text, (min(times), max(times))))) if len(times) == len(rows) else ""
    took = took and f"; inference takes {took} ms per image"
    return f"Deployed, {have} {params} parameters and {macs} multiply-adds{took}."
