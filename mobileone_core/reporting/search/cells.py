"""The record of a search as CSV: cells.csv with a row per cell, comparison.csv with a row per network measured."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mobileone_core.files import saved_text
from mobileone_core.reporting.record_csv import (
    ENVIRONMENT,
    FACTOR,
    columns_of,
    measured,
    read_measured,
)
from mobileone_core.reporting.render.csv import csv_text
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search_plan import SearchPlan

CELL = ("key", "seed", "run_id")
ENTRY = ("key", "arm", "run_id")


def search_texts(plan: SearchPlan, record: StudyRecord) -> dict[str, str]:
    """Return both files; a cell or network that is not finished has a row without values."""
    cells = [(cell.key, cell.seed, cell.factors, [row for row in record.rows if row.key == cell.key])
             for cell in plan.cells]  # fmt: skip
    entries = [
        (planned.key, entry.label, entry.factors, [
            row for row in record.comparison if row.key == planned.key and dict(row.factors) == dict(entry.factors)
        ])
        for planned in plan.comparisons
        for entry in planned.spec.entries
    ]  # fmt: skip
    return {"cells.csv": _text(CELL, cells), "comparison.csv": _text(ENTRY, entries)}


Line = tuple[str, object, Mapping[str, Level], Sequence[CellRow]]


def _text(head: Sequence[str], lines: Sequence[Line]) -> str:
    metrics, tags = columns_of([row for *_, rows in lines for row in rows])
    factors = [*lines[0][2]]
    table: list[list[object]] = [
        [*head[:2], *(FACTOR + name for name in factors), "run_id", *metrics, *(ENVIRONMENT + tag for tag in tags)]
    ]
    for key, name, levels, rows in lines:
        start = [key, name, *(level_text(level) for level in levels.values())]
        runs = [measured(row, metrics, tags) for row in sorted(rows, key=lambda row: row.run_id)]
        table += [[*start, *run] for run in runs or [[""] * (1 + len(metrics) + len(tags))]]
    return csv_text(table)


def read_search_cells(plan: SearchPlan, directory: Path) -> StudyRecord:
    """Read what search_texts wrote. Raises KeyError or ValueError if it is of another plan."""
    cells = {cell.key: cell for cell in plan.cells}
    rows = [
        CellRow(line["key"], cells[line["key"]].seed, cells[line["key"]].factors, line["run_id"], metrics, tags)
        for line, metrics, tags in _lines((directory / "cells.csv").read_text(encoding="utf-8"), CELL)
    ]
    levels = {
        (planned.key, entry.label): entry.factors for planned in plan.comparisons for entry in planned.spec.entries
    }
    compared = [
        CellRow(line["key"], 0, levels[line["key"], line["arm"]], line["run_id"], metrics, tags)
        for line, metrics, tags in _lines(saved_text(directory / "comparison.csv"), ENTRY)
    ]
    return StudyRecord(tuple(rows), (), tuple(compared))


def _lines(text: str, fixed: Sequence[str]) -> Iterator[tuple[dict[str, str], dict[str, float], dict[str, str]]]:
    """Yield every row with a run: its columns, metrics and tags."""
    for line in csv.DictReader(io.StringIO(text)):
        if line["run_id"]:
            yield (line, *read_measured(line, set(fixed)))
