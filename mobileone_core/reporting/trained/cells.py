"""The record of a grid study as files: cells.csv, curves.csv and comparison.csv, from which all else is rendered."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobileone_core.files import saved_text
from mobileone_core.reporting.render.csv import FACTOR, read_rows, rows_csv
from mobileone_core.reporting.trained.result import FORM, runs_by_form
from mobileone_core.study.factor import Level
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord
from mobileone_core.texts import csv_rows, csv_text


def trained_files(plan: GridPlan, record: StudyRecord) -> dict[str, str]:
    """The three files; an empty text is no file."""
    return {
        "cells.csv": cells_csv(plan, record.rows),
        "curves.csv": curves_csv(plan, record.curves),
        "comparison.csv": comparison_csv(plan, record.comparison),
    }


def read_trained(plan: GridPlan, directory: Path) -> StudyRecord:
    """Read what `trained_files` wrote. Raises KeyError and ValueError where it does not fit the plan."""
    cells = {cell.key: (cell.seed, cell.factors) for cell in (*plan.cells, *plan.teachers)}
    rows = read_rows((directory / "cells.csv").read_text(encoding="utf-8"), lambda line: cells[line["key"]])
    by_run = {row.run_id: row for row in rows}  # that of a teacher which is a cell, too, stands twice
    comparison = read_comparison(plan, saved_text(directory / "comparison.csv"))
    return StudyRecord(tuple(by_run.values()), (), comparison, read_curves(saved_text(directory / "curves.csv")))


def cells_csv(plan: GridPlan, rows: Sequence[CellRow]) -> str:
    """A line per cell in the plan's order, then its teachers, metrics as recorded (fractions, seconds).

    A missing cell has a line without measurements, a cell with two finished runs has two lines. Where there are
    teachers, the column role distinguishes them from cells and the column teacher names their network.
    """
    by_key = defaultdict[str, list[CellRow]](list)
    for row in rows:
        by_key[row.key].append(row)
    lines = []
    for cell in (*plan.cells, *plan.teachers):
        teacher, factors = (cell.variant, {}) if cell.role == "teacher" else ("", cell.factors)
        roles = {"role": cell.role, "teacher": teacher} if plan.teachers else {}
        levels = {FACTOR + factor.name: factors.get(factor.name, "") for factor in plan.study.factors}
        lines.append(({"key": cell.key, **roles, "seed": cell.seed, **levels}, by_key[cell.key]))
    return rows_csv(lines)


def curves_csv(plan: GridPlan, curves: Sequence[CurvePoint]) -> str:
    """A line per point of the plan's curves, in the plan's order; empty without any."""
    cells, names = {cell.key: index for index, cell in enumerate(plan.cells)}, plan.curves
    points = [point for point in curves if point.key in cells and point.metric in names]
    points.sort(key=lambda point: (cells[point.key], names.index(point.metric), point.epoch, repr(point.value)))
    lines = [(point.key, point.metric, point.epoch, repr(float(point.value))) for point in points]
    return csv_text([("key", "metric", "epoch", "value"), *lines]) if lines else ""


def read_curves(text: str) -> tuple[CurvePoint, ...]:
    """The points of a curves.csv."""
    return tuple(
        CurvePoint(line["key"], line["metric"], int(line["epoch"]), float(line["value"])) for line in csv_rows(text)
    )


def comparison_csv(plan: GridPlan, rows: Sequence[CellRow]) -> str:
    """A line per level and form, in the plan's order, train form first; empty without any."""
    lines = []
    for runs in filter(None, runs_by_form(plan, rows).values()):
        levels = {FACTOR + factor.name: runs[0].factors[factor.name] for factor in plan.study.factors}
        lines.append(({"key": runs[0].key, **levels, FORM: runs[0].factors[FORM]}, runs))
    return rows_csv(lines) if lines else ""


def read_comparison(plan: GridPlan, text: str) -> tuple[CellRow, ...]:
    """The rows of a comparison.csv; KeyError for a level that the plan does not have."""
    factors = [factor.name for factor in plan.study.factors]
    settings = {tuple(map(str, setting.values())): setting for setting in plan.study.settings}

    def cell_of(line: Mapping[str, str]) -> tuple[int, Mapping[str, Level]]:
        return 0, {**settings[tuple(line[FACTOR + name] for name in factors)], FORM: line[FORM]}

    return tuple(read_rows(text, cell_of))
