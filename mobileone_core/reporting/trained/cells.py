"""cells.csv of a study whose cells are trained, and what stands beside it: enough to render every table again."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobileone_core.reporting.files import kept_text
from mobileone_core.reporting.record_csv import (
    ENVIRONMENT,
    FACTOR,
    columns_of,
    comparison_text,
    curves_text,
    measured,
    read_comparison,
    read_curves,
    read_measured,
    table_text,
)
from mobileone_core.study.plan import Plan, PlannedCell
from mobileone_core.study.rows import CellRow, StudyRecord

ROLE, TEACHER = "role", "teacher"
FIXED = {"key", "seed", "run_id", ROLE, TEACHER}


def trained_texts(plan: Plan, record: StudyRecord) -> dict[str, str]:
    """The files that hold the record of a plan whose cells are trained."""
    return {
        "cells.csv": cells_text(plan, record.rows),
        "curves.csv": curves_text(plan, record.curves),
        "comparison.csv": comparison_text(plan, record.comparison),
    }


def cells_text(plan: Plan, rows: Sequence[CellRow]) -> str:
    """cells.csv: a line a cell in the plan's order, then its teachers, metrics as recorded (fractions, seconds).

    A missing cell has its line with nothing measured in it, a cell with two finished runs has two. Where there are
    teachers, role tells them from cells and teacher names their network.
    """
    teachers = plan.teachers
    keys = {cell.key for cell in (*plan.cells, *teachers)}
    rows = [row for row in rows if row.key in keys]
    metrics, tags = columns_of(rows)
    factors = [factor.name for factor in plan.study.factors]
    by_key: dict[str, list[CellRow]] = {}
    for row in sorted(rows, key=lambda row: row.run_id):
        by_key.setdefault(row.key, []).append(row)
    roles = [ROLE, TEACHER] if teachers else []
    header = ["key", *roles, "seed", *(FACTOR + name for name in factors), "run_id"]
    lines: list[list[object]] = [[*header, *metrics, *(ENVIRONMENT + name for name in tags)]]
    for cell in (*plan.cells, *teachers):
        role = [cell.role, cell.factors.get(TEACHER, "") if cell.role == TEACHER else ""] if teachers else []
        levels = (cell.factors.get(name, "") if cell.role == "cell" else "" for name in factors)
        start = [cell.key, *role, cell.seed, *levels]
        runs = [measured(row, metrics, tags) for row in by_key.get(cell.key, [])]
        lines += [[*start, *run] for run in runs or [[""] * (1 + len(metrics) + len(tags))]]
    return table_text(lines)


def read_trained(plan: Plan, directory: Path) -> StudyRecord:
    """What trained_texts wrote, without problems. Raises KeyError and ValueError where it is not of this plan."""
    lines = csv.DictReader(io.StringIO((directory / "cells.csv").read_text(encoding="utf-8")))
    known = {cell.key: cell for cell in (*plan.cells, *plan.teachers)}
    rows = [_row(line, known[line["key"]]) for line in lines if line["run_id"]]
    comparison = read_comparison(plan, kept_text(directory / "comparison.csv"))
    curves = read_curves(kept_text(directory / "curves.csv"))
    return StudyRecord(tuple({row.run_id: row for row in rows}.values()), (), comparison, curves)


def _row(line: Mapping[str, str], cell: PlannedCell) -> CellRow:
    metrics, tags = read_measured(line, FIXED)
    return CellRow(cell.key, cell.seed, cell.factors, line["run_id"], metrics, tags)
