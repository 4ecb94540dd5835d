"""A report directory: same record, same bytes; nothing rendered twice; regenerated from what it holds."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.errors import InputError
from mobileone_core.files import write_content
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.report import read_report, report_name, write_index, write_report
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.rows import StudyRecord

REGENERATE = """
import sys
from pathlib import Path
from mobileone_core.reporting.report import read_report
from mobileone_core.files import write_content
from mobileone_core.reporting.report import write_index, write_report
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of
home, target = map(Path, sys.argv[1:])
plan, record = read_report(home)
files = write_report(plan, record, target)
write_index(target)
terminal.render(document_of(plan, record))
found = {name.partition(".")[0] for name in sys.modules}
print(files.rendered, *sorted(found & {"torch", "mlflow", "optuna", "lightning", "seaborn", "matplotlib", "pandas"}))
"""
NAMES = ["README.md", "cells.csv", "figure.png", "figure.svg", "plan.json", "table.csv", "table.tex"]


@pytest.fixture
def undrawn(monkeypatch):
    """Figures without drawing them."""
    from mobileone_core.reporting.figures import curves, levels

    for module, name in ((levels, "draw"), (curves, "draw_curves")):
        monkeypatch.setattr(module, name, lambda _: Drawing(b"png", b"<svg/>"))


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def regenerate(home, target):
    command = [sys.executable, "-c", REGENERATE, str(home), str(target)]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "TkAgg"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()


@pytest.mark.slow
def test_same_record_gives_the_same_bytes(plan, rows, tmp_path):
    """In another process, from cells.csv and plan.json alone, and without the heavy packages."""
    files = write_report(plan, StudyRecord(rows, ["run r1 of cell abc has\nno metric"]), tmp_path / "one")
    assert files.rendered
    write_index(tmp_path / "one")
    first = contents(files.directory)
    assert sorted(first) == sorted([*NAMES, "problems.txt", "index.html"])
    rendered, *heavy = regenerate(files.directory, tmp_path / "two")
    assert rendered == "True"
    assert not {"torch", "mlflow", "optuna", "lightning"} & set(heavy)
    assert contents(tmp_path / "two" / "branches") == first


@pytest.mark.slow
def test_curves_and_comparison_are_regenerated_too(branches, measured, tmp_path):
    files = write_report(branches, measured, tmp_path / "one")
    write_index(tmp_path / "one")
    first = contents(files.directory)
    assert sorted(first) == sorted([*NAMES, "curves.csv", "curves.png", "curves.svg", "comparison.csv", "index.html"])
    assert regenerate(files.directory, tmp_path / "two")[0] == "True"
    assert contents(tmp_path / "two" / branches.study.name) == first
    assert regenerate(files.directory, tmp_path / "one") == ["False"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("part", ["curves", "comparison", "problems"])
def test_every_part_of_the_record_counts(branches, measured, tmp_path, part):
    """A part that changes is rendered; one that is gone leaves no file behind."""
    write_report(branches, measured, tmp_path)
    files = write_report(branches, replace(measured, **{part: ["wrong"] if part == "problems" else ()}), tmp_path)
    assert files.rendered
    kept = {path.name.partition(".")[0] for path in files.directory.iterdir()}
    assert (part in kept) == (part == "problems")
    assert write_report(branches, measured, tmp_path).rendered
    assert not write_report(branches, measured, tmp_path).rendered


@pytest.mark.slow
def test_order_of_curves_and_forms_changes_nothing(branches, measured, tmp_path):
    turned = replace(measured, curves=measured.curves[::-1], comparison=measured.comparison[::-1])
    first = write_report(branches, measured, tmp_path / "one").directory
    assert contents(write_report(branches, turned, tmp_path / "two").directory) == contents(first)


def test_row_order_changes_nothing(plan, rows, tmp_path):
    first = write_report(plan, StudyRecord(rows), tmp_path / "one").directory
    assert contents(write_report(plan, StudyRecord(rows[::-1]), tmp_path / "two").directory) == contents(first)


@pytest.mark.usefixtures("undrawn")
def test_unchanged_record_renders_nothing(plan, rows, tmp_path):
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    write_index(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert regenerate(directory, tmp_path) == ["False"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["figure.svg", "cells.csv", "curves.png", "comparison.csv"])
def test_lost_file_is_written_again(branches, measured, tmp_path, name):
    directory = write_report(branches, measured, tmp_path).directory
    before = contents(directory)
    (directory / name).unlink()
    assert write_report(branches, measured, tmp_path).rendered
    assert contents(directory) == before


@pytest.mark.slow
def test_changed_record_is_rendered_again(plan, rows, tmp_path):
    before = contents(write_report(plan, StudyRecord(rows), tmp_path).directory)
    changed = [replace(rows[0], metrics={**rows[0].metrics, "test/top1": 0.961}), *rows[1:]]
    files = write_report(plan, StudyRecord(changed), tmp_path)
    assert files.rendered
    after = contents(files.directory)
    assert {name for name in NAMES if before[name] != after[name]} == set(NAMES) - {"plan.json"}


@pytest.mark.usefixtures("undrawn")
def test_page_is_written_last(plan, rows, tmp_path, monkeypatch):
    """An interruption leaves a page that does not vouch for the new record, so the next run renders again."""
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    page = (directory / "README.md").read_bytes()

    def stop_at_page(path, content):
        if path.name == "README.md":
            raise KeyboardInterrupt
        write_content(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("mobileone_core.reporting.report.write_content", stop_at_page)
        with pytest.raises(KeyboardInterrupt):
            write_report(plan, StudyRecord(rows[1:]), tmp_path)
    assert (directory / "README.md").read_bytes() == page
    assert write_report(plan, StudyRecord(rows[1:]), tmp_path).rendered


@pytest.mark.usefixtures("undrawn")
def test_record_read_back(plan, rows, tmp_path):
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    again, record = read_report(directory)
    assert again == plan
    private = ("host", "pid", "home")
    kept = [replace(row, environment={k: v for k, v in row.environment.items() if k not in private}) for row in rows]
    assert record == StudyRecord(tuple(kept))
    assert read_plan((directory / "plan.json").read_text()) == plan


def test_nobodys_host_process_or_paths_are_told(plan, rows, tmp_path):
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    for name, content in contents(directory).items():
        assert b"somebody" not in content, name
        assert b"4711" not in content, name


def test_settings_of_ones_own_get_a_directory_of_their_own(make_plan):
    plan = make_plan(default=False, variant="s0", data="cifar10")
    assert report_name(plan) == f"branches-s0-cifar10-{plan.id}"
    assert report_name(make_plan()) == "branches"


@pytest.mark.usefixtures("undrawn")
def test_index_lists_every_study(plan, rows, make_plan, tmp_path):
    write_report(plan, StudyRecord(rows), tmp_path)
    write_report(make_plan(name="another", question="Is it so?"), StudyRecord(rows[:2]), tmp_path)
    text = write_index(tmp_path).read_text()
    lines = text.splitlines()
    assert lines[4].startswith("| [another](another/README.md) | Is it so? | k = 2 and 4: not enough seeds.")
    assert lines[5].startswith("| [branches](branches/README.md) | Does accuracy rise with k? | k = 4 is better than k")


def test_figure_is_readable_and_undated(plan, rows, tmp_path):
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    png = (directory / "figure.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert b"Software" not in png
    svg = (directory / "figure.svg").read_text()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "dc:date" not in svg


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_figure_of_little(plan, rows, tmp_path, kept):
    files = write_report(plan, StudyRecord(rows[:kept]), tmp_path)
    assert (files.directory / "figure.png").stat().st_size > 1000


def test_figure_leaves_settings_alone(plan, rows, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_report(plan, StudyRecord(rows), tmp_path)
    assert dict(mpl.rcParams) == before


@pytest.mark.usefixtures("undrawn")
def test_refuses_a_record_that_is_none(tmp_path, plan, rows):
    with pytest.raises(InputError, match=r"no report here, plan\.json is missing"):
        read_report(tmp_path)
    directory = write_report(plan, StudyRecord(rows), tmp_path).directory
    declared = json.loads((directory / "plan.json").read_text())
    declared["study"]["seeds"] = 2
    (directory / "plan.json").write_text(json.dumps(declared))
    with pytest.raises(InputError, match=r"its files cannot be read as one record"):
        read_report(directory)


def test_directory_that_cannot_be_written(plan, rows, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="no directory that can be written to"):
        write_report(plan, StudyRecord(rows), tmp_path / "file")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_broken_write_leaves_the_old_file_whole(tmp_path, monkeypatch, error):
    path = tmp_path / "page.md"
    write_content(path, "old")

    def half(self, content):
        with self.open("wb") as stream:
            stream.write(content[:1])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises((InputError, KeyboardInterrupt)):
        write_content(path, "new")
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"page.md": "old"}
