"""The tables of a grid study: levels against the baseline, effects, costs, teachers, cells."""

from collections.abc import Sequence

from mobileone_core.reporting.document import MISSING, Column, Number, Table
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.plan import PlannedCell, cached_cost
from mobileone_core.study.statistics import ALPHA, Comparison, Contrast, Summary, summarize


def main_table(result: TrainedResult) -> Table:
    """A column per factor, the measured columns, then one column per published variant."""
    metric, factors = result.metric, result.plan.study.factors
    baseline = "the baseline" if len(factors) > 1 else result.level_name(result.analysis.baseline)
    published = published_columns(result)
    printed = {(value.column, value.level): value.printed for value in result.published}
    columns = (
        *(Column(factor.name) for factor in factors),
        Column(f"measured {result.axis_label}", "mean ± 95 % interval"),
        Column("n", "seeds"),
        Column("sd", metric.difference_unit),
        *_contrast_columns(result, "difference", f"against {baseline}"),
        *(Column(*column) for column in published),
    )
    texts = level_texts(result)
    rows, numbers = [], []
    for row in result.analysis.comparisons:
        values = {_name(*column): printed.get((column, row.level)) for column in published}
        rows.append((*texts[row.level], *_measured(result, row), *(value or MISSING for value in values.values())))
        numbers.append({**_numbers(result, row), **values})
    return Table(columns, tuple(rows), len(factors), tuple(numbers))


def published_columns(result: TrainedResult) -> list[tuple[str, str]]:
    """Title and unit of every published column, those in the metric's unit first."""
    columns = dict.fromkeys(value.column for value in result.published)
    return sorted(columns, key=lambda column: column[1] != result.metric.unit)


def _name(title: str, unit: str) -> str:
    """A published column's name in CSV: published_s2, published_gain_over_the_previous_row_of_table_8_s2_points."""
    name = title.lower().replace(", ", "_").replace(" ", "_")
    return name if unit == "%" else f"{name}_{unit}"


def level_texts(result: TrainedResult) -> dict[str, tuple[str, ...]]:
    """The printed levels of every setting, factor by factor, by the setting's label."""
    return {level_label(setting): tuple(map(level_text, setting.values())) for setting in result.plan.study.settings}


def summary_text(result: TrainedResult, summary: Summary) -> str:
    """Mean and half width of the 95 % t interval in the metric's digits."""
    if summary.mean is None:
        return MISSING
    mean = result.metric.number(summary.mean)
    return mean if summary.high is None else f"{mean} ± {result.metric.number(summary.high - summary.mean)}"


def _measured(result: TrainedResult, row: Comparison) -> tuple[str, ...]:
    summary = row.summary
    sd = MISSING if summary.sd is None else result.metric.number(summary.sd)
    count = _count(summary.n, result.plan.study.seeds)
    return summary_text(result, summary), count, sd, *_contrast(result, row)


def _count(n: int, planned: int) -> str:
    return str(n) if n == planned else f"{n} of {planned}"


def _numbers(result: TrainedResult, row: Comparison) -> dict[str, Number]:
    """A level's line in CSV: its summary, the contrast with the baseline, and plain paired t tests.

    Studies of several factors have one more column per factor: factor.k and so on.
    """
    factors = [f"factor.{factor.name}" for factor in result.plan.study.factors]
    levels = dict(zip(factors, level_texts(result)[row.level], strict=True)) if len(factors) > 1 else {}
    summary, pair = row.summary, row.paired
    contrast = {name: getattr(row, name) for name in ("difference", "low", "high", "p", "p_holm")}
    paired = {f"paired_{name}": getattr(pair, name) for name in ("difference", "low", "high", "p")}
    paired |= {"pairs": pair.pairs, "wins": pair.wins, "ties": pair.ties}
    if row.level == result.analysis.baseline:
        contrast, paired = dict.fromkeys(contrast), dict.fromkeys(paired)
    return {
        "level": row.level,
        **levels,
        "metric": result.metric.name,
        "unit": result.metric.unit,
        "n": summary.n,
        "planned": result.plan.study.seeds,
        "mean": summary.mean,
        "sd": summary.sd,
        "mean_low": summary.low,
        "mean_high": summary.high,
        **contrast,
        "detectable": row.detectable,
        "verdict": row.verdict,
        **paired,
    }


def effects_table(result: TrainedResult) -> Table:
    """Main effects and interactions."""
    columns = (Column("effect"), *_contrast_columns(result, "estimate", f"on {result.metric.label}"))
    rows = [(row.label, *_contrast(result, row)) for row in result.effects]
    numbers: list[dict[str, Number]] = [
        {
            "effect": row.label,
            "order": row.order,
            "metric": result.metric.name,
            "unit": result.metric.difference_unit,
            "confidence": 1 - ALPHA / len(result.effects),
            **{name: getattr(row, name) for name in ("difference", "low", "high", "p", "p_holm", "detectable")},
            "verdict": row.verdict,
        }
        for row in result.effects
    ]
    return Table(columns, tuple(rows), numbers=tuple(numbers), file="effects")


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
    names = [factor.name for factor in result.plan.study.factors]
    shows_metric = result.plan.study.figure == "cost"
    heads = [f"{what}, {form}" for what in ("parameters", "multiply-adds") for form in ("trained", "deployed")]
    summaries = {row.level: row.summary for row in result.analysis.comparisons}
    rows = []
    for cell in (cell for cell in result.plan.cells if cell.seed == 0):
        data, summary = cell.spec.data, summaries[level_label(cell.factors)]
        cost = cached_cost(cell.spec.model, data.image_size, data.num_classes)
        counts = (cost.train.params, cost.deployed.params, cost.train.macs, cost.deployed.macs)
        measured = [summary_text(result, summary), str(summary.n)] if shows_metric else []
        levels = (level_text(cell.factors[name]) for name in names)
        rows.append((*levels, *(f"{count:,}" for count in counts), *measured))
    more = [f"measured {result.axis_label}", "n"] if shows_metric else []
    return Table(tuple(map(Column, [*names, *heads, *more])), tuple(rows), len(names))


def teachers_table(result: TrainedResult) -> Table:
    """A row per teacher, those from files by their hash; no rows where there is none."""
    cells: dict[str, list[str]] = {}
    for cell in result.plan.teachers:
        cells.setdefault(cell.variant, []).append(cell.key)
    files = dict.fromkeys(item for cell in result.plan.cells for item in cell.spec.recipe.teachers if item.weights)
    columns = (
        Column("teacher", is_text=True),
        Column("weights", is_text=True),
        Column(f"measured {result.axis_label}"),
        Column("n"),
    )
    rows = []
    for name, keys in cells.items():
        summary = summarize(result.value(key) for key in keys if key in result.teachers)
        rows.append((name, "trained first", summary_text(result, summary), _count(summary.n, len(keys))))
    rows += [(item.network, f"file {item.weights} (SHA-256)", MISSING, MISSING) for item in files]
    return Table(columns, tuple(rows))


def cells_table(result: TrainedResult) -> Table:
    """Every cell with its run, then the teachers where there are any; all metrics are in cells.csv."""
    plan, names = result.plan, [factor.name for factor in result.plan.study.factors]
    role = [Column("role", is_text=True)] if plan.teachers else []
    texts = [Column("cell", is_text=True), Column("run", is_text=True)]
    columns = (*role, *map(Column, [*names, "seed", result.axis_label]), *texts)
    rows = []
    for cell in (*plan.cells, *plan.teachers):
        is_level = cell.role == "cell"
        roles = ["cell" if is_level else f"teacher {cell.variant}"] if role else []
        levels = (level_text(cell.factors[name]) if is_level else "" for name in names)
        rows.append((*roles, *levels, str(cell.seed), *_run(result, cell)))
    return Table(columns, tuple(rows), len(columns) - 3)


def _run(result: TrainedResult, cell: PlannedCell) -> Sequence[str]:
    """A cell's metric, key and run."""
    row = result.rows.get(cell.key) or result.teachers.get(cell.key)
    if row is None:
        return "missing", f"`{cell.key}`", ""
    return result.metric.number(result.value(cell.key)), f"`{cell.key}`", f"`{row.run_id}`"
