"""A workspace written by commit 22d9c40 is read as it is, and nothing of it is run again."""

import contextlib
import json
import runpy
import sqlite3
from pathlib import Path

import pytest
from study_proof import give_databases

from mobileone_core.cli import console, main

CONTENT = json.loads((Path(__file__).parent / "fixtures" / "record_22d9c40.json").read_text(encoding="utf-8"))
STUDY = runpy.run_path(str(Path(__file__).parents[3] / "studies" / "branch_count.py"))["STUDY"]
OPTIONS = ("--k", "1", "2", "--seeds", "2", "--epochs", "1")


@pytest.fixture
def runs(databases, workspace):
    """Databases of today's libraries, filled with the rows of that commit."""
    give_databases(databases, workspace)
    for name in ("mlflow", "optuna"):
        with contextlib.closing(sqlite3.connect(workspace.runs / f"{name}.db")) as connection, connection:
            for table, content in CONTENT[name].items():
                columns, marks = ", ".join(content["columns"]), ", ".join("?" * len(content["columns"]))
                query = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})"
                connection.executemany(query, content["rows"])
    return workspace.runs


def output_of(command, *arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_plan_and_status_show_every_cell_complete(runs, capsys):
    ids = [row[0] for row in CONTENT["mlflow"]["runs"]["rows"]]
    plan = output_of(main, STUDY, [*OPTIONS, "--runs", str(runs), "--plan"], capsys=capsys)
    status = output_of(console, ["status", "--runs", str(runs)], capsys=capsys)
    for text in (plan, status):
        assert "4 complete" in text
        assert all(run_id in text for run_id in ids)


def test_the_study_has_nothing_to_do_and_its_report_has_the_same_cells(runs, capsys):
    report = output_of(console, ["report", "branch_count", "--runs", str(runs)], capsys=capsys)
    again = output_of(main, STUDY, [*OPTIONS, "--runs", str(runs)], capsys=capsys)
    assert "all 4 cells are complete: nothing to do" in again
    page = Path(report.strip())
    assert f"report: {page}" in again
    assert (page.parent / "cells.csv").read_text(encoding="utf-8") == CONTENT["cells.csv"]
