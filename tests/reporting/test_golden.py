"""The rendered texts of a small study, read by a person, who reads anew what changes on purpose.

By hand for the rows of conftest.py: residual sum of squares 0.0933 over 4 degrees of freedom, so the standard error
of a difference is 0.1247 points; t at 98.75 % is 3.495, the half width 0.436.
"""

from pathlib import Path

import pytest

from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of, write_report
from mobileone_core.study.rows import StudyRecord

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["README.md", "table.csv", "table.tex", "cells.csv"])
def test_files_are_as_read(plan, rows, tmp_path, monkeypatch, name):
    from mobileone_core.reporting.figures import levels as figure

    monkeypatch.setattr(figure, "draw", lambda _: figure.style.Drawing(b"png", b"svg"))
    files = write_report(plan, StudyRecord(rows), tmp_path)
    assert (files.directory / name).read_text(encoding="utf-8") == (GOLDEN / name).read_text(encoding="utf-8")


def test_terminal_is_as_read(plan, rows):
    assert terminal.render(document_of(plan, StudyRecord(rows))) + "\n" == (GOLDEN / "terminal.txt").read_text(
        encoding="utf-8"
    )
