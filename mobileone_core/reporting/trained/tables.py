"""The tables of a grid study: levels against the baseline, effects, costs, teachers, curves, cells."""

import math
from collections import defaultdict
from collections.abc import Mapping

from mobileone_core.reporting.document import MISSING, Bullets, Column, Number, Section, Table
from mobileone_core.reporting.published import read_published
from mobileone_core.reporting.trained.comparison import latencies
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.least_squares import Contrast
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.statistics import ALPHA, Comparison, Summary, summarize
from mobileone_core.training.tasks import task_spec

Curve = Mapping[int, float]  # epoch, value
TABLE12 = ("model", "mobile, ms", "clean", "ImageNet-C, mCE", "ImageNet-A", "ImageNet-R", "ImageNet-Sketch")
CORRUPTION_NOTES = (
    "Top-1 in percent, means over seeds with 95 % t intervals; a corruption is the mean over five severities, *top1* "
    "the mean over corruptions. Ours, of torchvision's transforms, not ImageNet-C; every network sees the same images.",
    "*Published* (table 12, ImageNet): top-1 in percent, mCE relative to AlexNet (lower is better); no scale for ours.",
)


def main_table(result: TrainedResult) -> Table:
    """A column per factor, the measured columns, then one column per published variant."""
    baseline = "the baseline" if len(result.factors) > 1 else result.level_name(result.analysis.baseline)
    titles = dict.fromkeys(value.column for value in result.published)
    published = sorted(titles, key=lambda column: column[1] != result.metric.unit)  # those in the metric's unit first
    printed = {(value.column, value.level): value.printed for value in result.published}
    columns = (
        *map(Column, result.factors),
        Column(f"measured {result.axis_label}", "mean ± 95 % interval"),
        Column("n", "seeds"),
        Column("sd", result.metric.difference_unit),
        *_contrast_columns(result, "difference", f"against {baseline}"),
        *(Column(*column) for column in published),
    )
    texts = level_texts(result)
    rows, numbers = [], []
    for row in result.analysis.comparisons:
        values = {_name(*column): printed.get((column, row.level)) for column in published}
        measured = summary_text(row.summary, result.metric.decimals), _count(row.summary.n, result.plan.study.seeds)
        sd = MISSING if row.summary.sd is None else result.metric.number(row.summary.sd)
        shown = (value or MISSING for value in values.values())
        rows.append((*texts[row.level], *measured, sd, *_contrast(result, row), *shown))
        numbers.append({**_numbers(result, row), **values})
    return Table(columns, tuple(rows), len(result.factors), tuple(numbers))


def _name(title: str, unit: str) -> str:
    """A published column's name in CSV: published_s2, published_gain_over_the_previous_row_of_table_8_s2_points."""
    name = title.lower().replace(", ", "_").replace(" ", "_")
    return name if unit == "%" else f"{name}_{unit}"


def level_texts(result: TrainedResult) -> dict[str, tuple[str, ...]]:
    """The printed levels of every setting, factor by factor, by the setting's label."""
    return {level_label(setting): tuple(map(level_text, setting.values())) for setting in result.plan.study.settings}


def summary_text(summary: Summary, decimals: int, sign: str = "") -> str:
    """Mean and half width of the 95 % t interval; sign is "+" where the mean shows its sign."""
    if summary.mean is None:
        return MISSING
    mean = f"{summary.mean:{sign}.{decimals}f}"
    return mean if summary.high is None else f"{mean} ± {summary.high - summary.mean:.{decimals}f}"


def _count(n: int, planned: int) -> str:
    return str(n) if n == planned else f"{n} of {planned}"


def _numbers(result: TrainedResult, row: Comparison) -> dict[str, Number]:
    """A level's line in CSV, with a column per factor (factor.k and so on) where there are several."""
    levels = {f"factor.{name}": text for name, text in zip(result.factors, level_texts(result)[row.level], strict=True)}
    named: dict[str, Number] = {"level": row.level, **(levels if len(levels) > 1 else {})}
    named |= {"metric": result.metric.name, "unit": result.metric.unit}
    counts = {"n": row.summary.n, "planned": result.plan.study.seeds}
    mean = {name: getattr(row.summary, name.removeprefix("mean_")) for name in ("mean", "sd", "mean_low", "mean_high")}
    paired = {f"paired_{name}": getattr(row.paired, name) for name in ("difference", "low", "high", "p")}
    paired |= {name: getattr(row.paired, name) for name in ("pairs", "wins", "ties")}
    if row.level == result.analysis.base_of[row.level]:
        paired = dict.fromkeys(paired)
    return {**named, **counts, **mean, **_estimates(row), "verdict": row.verdict, **paired}


def _estimates(row: Contrast) -> dict[str, Number]:
    return {name: getattr(row, name) for name in ("difference", "low", "high", "p", "p_holm", "detectable")}


def effects_table(result: TrainedResult) -> Table:
    """Main effects and interactions."""
    columns = (Column("effect"), *_contrast_columns(result, "estimate", f"on {result.metric.label}"))
    rows = [(row.label, *_contrast(result, row)) for row in result.effects]
    numbers, metric = list[dict[str, Number]](), result.metric
    for row in result.effects:
        named: dict[str, Number] = {"effect": row.label, "order": row.order}
        named |= {"metric": metric.name, "unit": metric.difference_unit, "confidence": 1 - ALPHA / len(result.effects)}
        numbers.append({**named, **_estimates(row), "verdict": row.verdict})
    return Table(columns, tuple(rows), numbers=tuple(numbers), file="effects")


def corruptions_section(result: TrainedResult) -> Section:
    """Top-1 by corruption of the test images, and the published table 12; empty where none was recorded."""
    recorded = sorted({name for row in result.rows.values() for name in row.metrics if name.startswith("corrupted/")})
    names = {"clean": "test/top1", **{name.partition("/")[2].removesuffix("_top1"): name for name in recorded}}
    rows = []
    for level, texts in level_texts(result).items():
        metrics = [row.metrics for _, row in result.finished(level)]
        means = [summarize(100 * item[name] for item in metrics if name in item) for name in names.values()]
        rows.append((*texts, *(summary_text(mean, 1) for mean in means)))
    measured = Table(tuple(map(Column, [*result.factors, *names])), tuple(rows), len(result.factors))
    printed = read_published("table12_robustness")
    published = Table(tuple(map(Column, TABLE12)), tuple(tuple(map(str, row.values())) for row in printed), 1)
    blocks = (measured, Bullets(CORRUPTION_NOTES), published) if recorded else ()
    return Section("Top-1 by corruption", blocks, is_key=True)


def _contrast_columns(result: TrainedResult, title: str, verdict: str) -> tuple[Column, ...]:
    unit = f", {result.metric.difference_unit}" if result.metric.difference_unit else ""
    return (
        Column(title + unit, "[simultaneous 95 %]"),
        Column("verdict", verdict, is_text=True),
        Column("detectable" + unit, "80 % power"),
    )


def _contrast(result: TrainedResult, row: Contrast) -> tuple[str, str, str]:
    detectable = MISSING if row.detectable is None else result.metric.number(row.detectable)
    return result.metric.difference(row) or MISSING, row.verdict, detectable


def cost_table(result: TrainedResult) -> Table:
    """Parameters and multiply-adds of every level in both forms; the metric too where the study asks what cost buys."""
    has_head = task_spec(result.plan.base.task).has_head
    is_recorded = has_head or any(cells[0].spec.backbone for cells in result.levels.values())
    forms = ("deployed",) if is_recorded else ("trained", "deployed")
    heads = [f"{what}, {form}" for what in ("parameters", "multiply-adds") for form in forms]
    measured_heads = [f"measured {result.axis_label}", "n"] if result.plan.study.figure == "cost" else []
    rows, times = [], latencies(result)
    for row, levels in zip(result.analysis.comparisons, level_texts(result).values(), strict=True):
        cost = result.costs(result.levels[row.level])
        costs = [{"trained": cost.train, "deployed": cost.deployed}[form] for form in forms]
        counts = [count for name in ("params", "macs") for count in (getattr(item, name) for item in costs)]
        measured = (summary_text(row.summary, result.metric.decimals), str(row.summary.n)) if measured_heads else ()
        latency = (times.get(row.level, MISSING),) if times else ()
        rows.append((*levels, *(f"{count:,}" if count else MISSING for count in counts), *latency, *measured))
    heads += ["latency, ms"] * bool(times) + measured_heads
    return Table(tuple(map(Column, [*result.factors, *heads])), tuple(rows), len(result.factors))


def teachers_table(result: TrainedResult) -> Table:
    """A row per teacher, those from files by their hash; no rows where there is none."""
    cells = defaultdict[str, list[str]](list)
    for cell in result.plan.teachers:
        cells[_trained_first(result, cell)].append(cell.key)
    files = dict.fromkeys(item for cell in result.plan.cells for item in cell.spec.recipe.teachers if item.weights)
    heads = Column("teacher", is_text=True), Column("weights", is_text=True)
    rows = []
    for name, keys in cells.items():
        summary = summarize(result.value(key) for key in keys if key in result.teachers)
        text = summary_text(summary, result.metric.decimals)
        rows.append((name, "trained first", text, _count(summary.n, len(keys))))
    rows += [(item.network, f"file {item.weights} (SHA-256)", MISSING, MISSING) for item in files]
    return Table((*heads, Column(f"measured {result.axis_label}"), Column("n")), tuple(rows))


def _trained_first(result: TrainedResult, cell: PlannedCell) -> str:
    """The name of a cell that others need: its network, and its own metric if the study's is another."""
    is_same = cell.spec.task == result.plan.study.task
    return cell.variant if is_same else f"{cell.variant}, k = {cell.spec.model.k}, {cell.spec.task} (top-1)"


def cells_table(result: TrainedResult) -> Table:
    """Every cell with its run, then the teachers where there are any; all metrics are in cells.csv."""
    teachers, finished = result.plan.teachers, {**result.rows, **result.teachers}
    role = [Column("role", is_text=True)] if teachers else []
    texts = [Column("cell", is_text=True), Column("run", is_text=True)]
    columns = (*role, *map(Column, [*result.factors, "seed", result.axis_label]), *texts)
    rows = []
    for cell in (*result.plan.cells, *teachers):
        roles, levels = ["cell"], [*map(level_text, cell.factors.values())]
        if cell.role == "teacher":
            roles, levels = [f"teacher {_trained_first(result, cell)}"], [""] * len(result.factors)
        row = finished.get(cell.key)
        value, run = (result.metric.number(result.value(cell.key)), f"`{row.run_id}`") if row else ("missing", "")
        rows.append((*(roles if teachers else []), *levels, str(cell.seed), value, f"`{cell.key}`", run))
    return Table(columns, tuple(rows), len(columns) - 3)


def curve_label(metric: str) -> str:
    """The name of a curve: train loss, validation loss."""
    return metric.replace("val/", "validation ").replace("/", " ").replace("_", " ")


def level_curves(result: TrainedResult, metric: str) -> dict[str, dict[int, Curve]]:
    """A metric's curves by level and seed; values that are not finite are left out."""
    points = defaultdict[str, dict[int, float]](dict)
    for point in result.curves:
        if point.metric == metric and math.isfinite(point.value):
            points[point.key][point.epoch] = point.value
    return {
        level: {cell.seed: points[cell.key] for cell in cells if cell.key in points}
        for level, cells in result.levels.items()
    }


def curve_ends(result: TrainedResult, metric: str, base: str = "") -> dict[str, tuple[Summary, Summary]]:
    """By level: the values at its last epoch, and their difference from the baseline in percent, seed by seed.

    base: a level to compare with instead of the baseline. A curve that stops before its cell's last epoch is left out.
    """
    last = {level: cells[0].epochs for level, cells in result.levels.items()}
    ends = {
        level: {seed: curve[last[level]] for seed, curve in curves.items() if last[level] in curve}
        for level, curves in level_curves(result, metric).items()
    }
    former = ends.get(base or result.analysis.baseline, {})
    return {level: (summarize(values.values()), summarize(relative(values, former))) for level, values in ends.items()}


def relative(values: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """The difference from the baseline in percent of it, for every seed of both."""
    return [100 * (values[seed] / base[seed] - 1) for seed in sorted(values.keys() & base.keys()) if base[seed]]


def curve_table(result: TrainedResult) -> Table:
    """A row per level; per metric the mean at the last epoch with interval, n, and difference from the baseline, %."""
    columns, rows = [*map(Column, result.factors)], level_texts(result)
    for metric in result.plan.curves:
        columns += [Column(curve_label(metric), "mean ± 95 % interval"), Column("n", "seeds")]
        columns.append(Column("against baseline, %", "mean ± 95 % interval"))
        for level, (values, against) in curve_ends(result, metric).items():
            text = "baseline" if level == result.analysis.baseline else summary_text(against, 1, "+")
            rows[level] = (*rows[level], summary_text(values, 4), str(values.n), text)
    return Table(tuple(columns), tuple(rows.values()), len(result.factors))
