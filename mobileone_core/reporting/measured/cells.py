"""cells.csv of a measured study: one row an arm, enough to render every table and figure again. No torch here."""

import csv
import io
from pathlib import Path

from mobileone_core.files import saved_text
from mobileone_core.reporting.devices import devices_text, read_devices_csv
from mobileone_core.reporting.measured.evaluations import evaluations_text, read_evaluations_csv
from mobileone_core.reporting.record_csv import (
    ENVIRONMENT,
    FACTOR,
    columns_of,
    measured,
    read_measured,
)
from mobileone_core.reporting.render.csv import csv_text
from mobileone_core.study.factor import level_label, level_text
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import CellRow, StudyRecord

FIXED = {"key", "run_id"}


def measured_texts(plan: MeasuredPlan, record: StudyRecord) -> dict[str, str]:
    """The files that hold the record: an arm without a run has its line with nothing measured in it."""
    key, factors = plan.comparison.key, [factor.name for factor in plan.study.factors]
    labels = {entry.label for entry in plan.spec.entries}
    rows = [row for row in record.comparison if row.key == key and level_label(row.factors) in labels]
    metrics, tags = columns_of(rows)
    head = ["key", *(FACTOR + name for name in factors), "run_id", *metrics, *(ENVIRONMENT + tag for tag in tags)]
    lines = [head]
    for arm in plan.spec.entries:
        runs = sorted((row for row in rows if level_label(row.factors) == arm.label), key=lambda row: row.run_id)
        start = [key, *(level_text(arm.factors[name]) for name in factors)]
        found = [measured(row, metrics, tags) for row in runs]
        lines += [[*start, *run] for run in found or [[""] * (1 + len(metrics) + len(tags))]]
    devices = devices_text(record.devices) if record.devices else ""
    evaluations = evaluations_text(record.evaluations)
    return {"cells.csv": csv_text(lines), "evaluations.csv": evaluations, "devices.csv": devices}


def read_measured_cells(plan: MeasuredPlan, directory: Path) -> StudyRecord:
    """What measured_texts wrote. Raises KeyError and ValueError where it is not of this plan."""
    text = (directory / "cells.csv").read_text(encoding="utf-8")
    names = [factor.name for factor in plan.study.factors]
    arms = {tuple(level_text(entry.factors[name]) for name in names): entry for entry in plan.spec.entries}
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        arm = arms[tuple(line[FACTOR + name] for name in names)]
        if line["key"] != plan.comparison.key:
            raise ValueError(f"{line['key']} is not the comparison {plan.comparison.key}")
        if line["run_id"]:
            metrics, tags = read_measured(line, FIXED)
            rows.append(CellRow(line["key"], 0, dict(arm.factors), line["run_id"], metrics, tags))
    evaluations = read_evaluations_csv(saved_text(directory / "evaluations.csv"))
    devices = saved_text(directory / "devices.csv")
    found = read_devices_csv(devices) if devices else ()
    return StudyRecord((), (), tuple(rows), evaluations=evaluations, devices=found)
