"""The record of a search as CSV: cells.csv with a row per cell, comparison.csv with a row per network measured."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mobileone_core.files import saved_text
from mobileone_core.reporting.render.csv import factor_columns, read_measured, rows_csv
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search_plan import SearchPlan

FIXED = {"key", "seed", "arm", "run_id"}


def search_files(plan: SearchPlan, record: StudyRecord) -> dict[str, str]:
    """Return both files; a cell or network that is not finished has a row without values."""
    cells = [
        (
            {"key": cell.key, "seed": cell.seed, **factor_columns(cell.factors)},
            [row for row in record.rows if row.key == cell.key],
        )
        for cell in plan.cells
    ]
    entries = [
        (
            {"key": planned.key, "arm": entry.label, **factor_columns(entry.factors)},
            [row for row in record.comparison if row.key == planned.key and dict(row.factors) == dict(entry.factors)],
        )
        for planned in plan.comparisons
        for entry in planned.spec.entries
    ]
    return {"cells.csv": rows_csv(cells), "comparison.csv": rows_csv(entries)}


def read_search(plan: SearchPlan, directory: Path) -> StudyRecord:
    """Read what search_files wrote. Raises KeyError or ValueError if it is of another plan."""
    cells = {cell.key: cell for cell in plan.cells}
    comparisons = [(planned.key, entry) for planned in plan.comparisons for entry in planned.spec.entries]
    levels = {(key, entry.label): entry.factors for key, entry in comparisons}
    rows = [
        CellRow(
            line["key"],
            cells[line["key"]].seed,
            cells[line["key"]].factors,
            line["run_id"],
            *read_measured(line, FIXED),
        )
        for line in _finished((directory / "cells.csv").read_text(encoding="utf-8"))
    ]
    compared = [
        CellRow(line["key"], 0, levels[line["key"], line["arm"]], line["run_id"], *read_measured(line, FIXED))
        for line in _finished(saved_text(directory / "comparison.csv"))
    ]
    return StudyRecord(tuple(rows), (), tuple(compared))


def _finished(text: str) -> Iterator[dict[str, str]]:
    return (line for line in csv.DictReader(io.StringIO(text)) if line["run_id"])
