"""cells.csv and plan.json: the record as committed, enough to render every table and figure again."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.reporting.result import told
from mobileone_core.study.declaration import Plan, PlannedCell
from mobileone_core.study.rows import CellRow

FACTOR, ENVIRONMENT = "factor.", "environment."


def plan_text(plan: Plan) -> str:
    """plan.json: the declaration, indented."""
    return json.dumps(json.loads(plan.to_json()), indent=2, sort_keys=True) + "\n"


def cells_text(plan: Plan, rows: Sequence[CellRow]) -> str:
    """cells.csv: a line a cell in the plan's order, metrics as recorded (fractions, seconds).

    A missing cell has its line with nothing measured in it, a cell with two finished runs has two.
    """
    keys = {cell.key for cell in plan.cells}
    rows = [row for row in rows if row.key in keys]
    metrics = sorted({name for row in rows for name in row.metrics})
    tags = sorted({name for row in rows for name in told(row)})
    factors = [factor.name for factor in plan.study.factors]
    by_key: dict[str, list[CellRow]] = {}
    for row in sorted(rows, key=lambda row: row.run_id):
        by_key.setdefault(row.key, []).append(row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["key", "seed", *(FACTOR + name for name in factors), "run_id"]
    writer.writerow([*header, *metrics, *(ENVIRONMENT + name for name in tags)])
    for cell in plan.cells:
        start = [cell.key, cell.seed, *(cell.factors[name] for name in factors)]
        runs = [_measured(row, metrics, tags) for row in by_key.get(cell.key, [])]
        writer.writerows([*start, *run] for run in runs or [[""] * (1 + len(metrics) + len(tags))])
    return text.getvalue()


def _measured(row: CellRow, metrics: Sequence[str], tags: Sequence[str]) -> list[str]:
    values = (repr(float(row.metrics[name])) if name in row.metrics else "" for name in metrics)
    return [row.run_id, *values, *(told(row).get(name, "") for name in tags)]


def read_cells(directory: Path) -> tuple[Plan, list[CellRow]]:
    """The plan and rows that a report directory holds; InputError where they are not there or not readable."""
    try:
        plan = Plan.from_json((directory / "plan.json").read_text(encoding="utf-8"))
        lines = list(csv.DictReader(io.StringIO((directory / "cells.csv").read_text(encoding="utf-8"))))
        known = {cell.key: cell for cell in plan.cells}
        rows = {line["run_id"]: _row(line, known[line["key"]]) for line in lines if line["run_id"]}
        return plan, list(rows.values())
    except FileNotFoundError as error:
        raise InputError(f"{directory}: no report here, {Path(error.filename).name} is missing") from error
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{directory}: cells.csv and plan.json cannot be read as one record ({error!r})") from error


def _row(line: Mapping[str, str], cell: PlannedCell) -> CellRow:
    fixed = {"key", "seed", "run_id"}
    metrics = {
        name: float(text)
        for name, text in line.items()
        if text and name not in fixed and not name.startswith((FACTOR, ENVIRONMENT))
    }
    tags = {
        name.removeprefix(ENVIRONMENT): text for name, text in line.items() if text and name.startswith(ENVIRONMENT)
    }
    return CellRow(cell.key, cell.seed, cell.factors, line["run_id"], metrics, tags)
