"""curves.csv and comparison.csv: what the record holds besides cells, in full precision."""

import csv
import io
from collections.abc import Mapping, Sequence

from mobileone_core.reporting.trained.result import FORM, arm_of, told
from mobileone_core.study.factor import Level
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import CellRow, CurvePoint

FACTOR, ENVIRONMENT = "factor.", "environment."
CURVES = ("key", "metric", "epoch", "value")


def table_text(lines: Sequence[Sequence[object]]) -> str:
    """Lines as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def columns_of(rows: Sequence[CellRow]) -> tuple[list[str], list[str]]:
    """Names of all metrics and of all environment tags that are told."""
    return sorted({name for row in rows for name in row.metrics}), sorted({name for row in rows for name in told(row)})


def measured(row: CellRow, metrics: Sequence[str], tags: Sequence[str]) -> list[str]:
    """A row's run, metrics and tags; what it lacks stays empty."""
    values = (repr(float(row.metrics[name])) if name in row.metrics else "" for name in metrics)
    environment = told(row)
    return [row.run_id, *values, *(environment.get(name, "") for name in tags)]


def read_measured(line: Mapping[str, str], fixed: set[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and environment of a line; fixed names the columns that are neither."""
    metrics = {
        name: float(text)
        for name, text in line.items()
        if text and name not in fixed and not name.startswith((FACTOR, ENVIRONMENT))
    }
    tags = {
        name.removeprefix(ENVIRONMENT): text for name, text in line.items() if text and name.startswith(ENVIRONMENT)
    }
    return metrics, tags


def curves_text(plan: Plan, curves: Sequence[CurvePoint]) -> str:
    """curves.csv: a line a point of the curves that the study names, in the plan's order; empty without any."""
    cells = {cell.key: place for place, cell in enumerate(plan.cells)}
    names = {name: place for place, name in enumerate(plan.study.curves)}
    kept = [point for point in curves if point.key in cells and point.metric in names]
    kept.sort(key=lambda point: (cells[point.key], names[point.metric], point.epoch, repr(point.value)))
    lines = [(point.key, point.metric, point.epoch, repr(float(point.value))) for point in kept]
    return table_text([CURVES, *lines]) if lines else ""


def read_curves(text: str) -> tuple[CurvePoint, ...]:
    """The points of a curves.csv."""
    lines = csv.DictReader(io.StringIO(text))
    return tuple(CurvePoint(line["key"], line["metric"], int(line["epoch"]), float(line["value"])) for line in lines)


def comparison_text(plan: Plan, rows: Sequence[CellRow]) -> str:
    """comparison.csv: a line an arm and form, in the plan's order, train form first; empty without any."""
    wanted = plan.comparison
    if wanted is None:
        return ""
    arms = [dict(arm) for arm in plan.study.arms]
    kept = [row for row in rows if row.key == wanted.key and arm_of(row) in arms]
    kept.sort(key=lambda row: (arms.index(arm_of(row)), row.factors[FORM] != "train", row.run_id))
    metrics, tags = columns_of(kept)
    factors = [factor.name for factor in plan.study.factors]
    head = ["key", *(FACTOR + name for name in factors), FORM, "run_id", *metrics, *(ENVIRONMENT + tag for tag in tags)]
    lines = [
        [row.key, *(row.factors[name] for name in factors), row.factors[FORM], *measured(row, metrics, tags)]
        for row in kept
    ]
    return table_text([head, *lines]) if lines else ""


def read_comparison(plan: Plan, text: str) -> tuple[CellRow, ...]:
    """The rows of a comparison.csv; KeyError for a level that the plan has not."""
    factors = [factor.name for factor in plan.study.factors]
    arms = {tuple(str(arm[name]) for name in factors): arm for arm in plan.study.arms}
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        metrics, tags = read_measured(line, {"key", FORM, "run_id"})
        levels: dict[str, Level] = {**arms[tuple(line[FACTOR + name] for name in factors)], FORM: line[FORM]}
        rows.append(CellRow(line["key"], 0, levels, line["run_id"], metrics, tags))
    return tuple(rows)
