"""The record of a measured study as CSV: cells.csv with one row per entry, evaluations.csv, devices.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mobileone_core.files import saved_text
from mobileone_core.reporting.devices import devices_text, read_devices_csv
from mobileone_core.reporting.render.csv import FACTOR, csv_text, factor_columns, read_measured, rows_csv
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import CellRow, EvaluationRow, StudyRecord

FIXED = {"key", "run_id"}
EVALUATION = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256", "run_id")
NUMBERS = ("top1", "images")


def measured_files(plan: MeasuredPlan, record: StudyRecord) -> dict[str, str]:
    """Return the files that hold the record; an entry without a run has a row without values."""
    runs: dict[str, list[CellRow]] = {entry.label: [] for entry in plan.spec.entries}
    for row in record.comparison:
        if row.key == plan.comparison.key and (label := level_label(row.factors)) in runs:
            runs[label].append(row)
    lines = [
        ({"key": plan.comparison.key, **factor_columns(entry.factors)}, runs[entry.label])
        for entry in plan.spec.entries
    ]
    devices = devices_text(record.devices) if record.devices else ""
    evaluations = evaluations_text(record.evaluations)
    return {"cells.csv": rows_csv(lines), "evaluations.csv": evaluations, "devices.csv": devices}


def read_measured_files(plan: MeasuredPlan, directory: Path) -> StudyRecord:
    """Read what measured_files wrote. Raises KeyError or ValueError if it is of another plan."""
    text = (directory / "cells.csv").read_text(encoding="utf-8")
    names = [factor.name for factor in plan.study.factors]
    entries = {tuple(level_text(entry.factors[name]) for name in names): entry for entry in plan.spec.entries}
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        entry = entries[tuple(line[FACTOR + name] for name in names)]
        if line["key"] != plan.comparison.key:
            raise ValueError(f"{line['key']} is not the comparison {plan.comparison.key}")
        if line["run_id"]:
            rows.append(CellRow(line["key"], 0, dict(entry.factors), line["run_id"], *read_measured(line, FIXED)))
    evaluations = read_evaluations_csv(saved_text(directory / "evaluations.csv"))
    devices = saved_text(directory / "devices.csv")
    device_rows = read_devices_csv(devices) if devices else ()
    return StudyRecord((), (), tuple(rows), evaluations=evaluations, devices=device_rows)


def evaluations_text(rows: Sequence[EvaluationRow]) -> str:
    """Return evaluations.csv, a line per run in full precision; empty if there is none."""
    lines = sorted(
        (*(getattr(row, name) for name in EVALUATION), *(repr(float(getattr(row, name))) for name in NUMBERS))
        for row in rows
    )
    return csv_text([(*EVALUATION, *NUMBERS), *lines]) if lines else ""


def read_evaluations_csv(text: str) -> tuple[EvaluationRow, ...]:
    """Read what evaluations_text wrote. Raises KeyError or ValueError for anything else."""
    return tuple(
        EvaluationRow(
            **{name: line[name] for name in EVALUATION}, top1=float(line["top1"]), images=float(line["images"])
        )
        for line in csv.DictReader(io.StringIO(text))
    )
