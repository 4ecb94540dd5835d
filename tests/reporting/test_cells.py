"""The record as committed: what is written comes back to the last digit, and old directories are read."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.reporting.report import read_report, record_texts, write_report
from mobileone_core.reporting.trained.cells import (
    cells_csv,
    comparison_csv,
    curves_csv,
    read_comparison,
    read_curves,
)
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import teachers_table
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord
from mobileone_core.training.recipe import Teacher

numbers = st.floats(allow_nan=False)
words = st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), min_size=1, max_size=20)
filled = words.map(lambda text: f"a{text}")  # no path, and not empty


def written(plan, record, directory):
    """The record's files alone, where a report would have them."""
    for name, text in record_texts(plan, record).items():
        if text:
            (directory / name).write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def taught(make_plan):
    """A study whose cells are taught by small, in one level of two."""
    factors = (Factor("taught", settings={"off": {"recipe.teachers": ()}, "on": {}}, baseline="off"),)
    plan = make_plan(name="taught", published="", base={"recipe.teachers": ("larger",)})
    base = replace(plan.base, recipe=replace(plan.base.recipe, teachers=(Teacher("small"),)))
    return replace(plan, study=replace(plan.study, factors=factors), base=base)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_curves_come_back_exactly(branches, data):
    keys = st.sampled_from([cell.key for cell in branches.cells])
    points = st.builds(CurvePoint, keys, st.sampled_from(branches.study.curves), st.integers(1, 10**6), numbers)
    curves = data.draw(st.lists(points, unique_by=lambda point: (point.key, point.metric, point.epoch), max_size=20))
    text = curves_csv(branches, curves)
    back = read_curves(text)
    assert sorted(map(repr, back)) == sorted(map(repr, curves))
    assert curves_csv(branches, back) == text == curves_csv(branches, curves[::-1])


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_comparison_comes_back_exactly(branches, data):
    metrics = st.dictionaries(words.map(lambda name: f"time/{name}"), numbers, max_size=4)
    tags = st.dictionaries(st.sampled_from(["device", "processor", "threads"]), filled, max_size=3)
    rows = []
    for arm in branches.study.settings:
        for form in data.draw(st.sampled_from([(), ("train",), ("train", "deployed")])):
            levels = {**arm, "form": form}
            run = f"run{len(rows)}"
            rows.append(CellRow(branches.comparison.key, 0, levels, run, data.draw(metrics), data.draw(tags)))
    text = comparison_csv(branches, rows)
    back = read_comparison(branches, text)
    assert sorted(back, key=lambda row: row.run_id) == rows
    assert comparison_csv(branches, back) == text == comparison_csv(branches, rows[::-1])


def test_tuples_switches_and_numbers_are_levels_again(make_plan):
    factors = (
        Factor("se", "model.se", ("none", (0, 0, 0, 1)), "none"),
        Factor("nesterov", "recipe.nesterov", (False, True), False),
        Factor("width", "model.width", (0.5, 1.0), 1.0),
    )
    plan = make_plan(factors=factors, published="", compares="forms")
    rows = [
        CellRow(plan.comparison.key, 0, {**arm, "form": "train"}, f"run{place}", {"params": 1.0}, {})
        for place, arm in enumerate(plan.study.settings)
    ]
    assert list(read_comparison(plan, comparison_csv(plan, rows))) == rows


def test_whole_record_comes_back(branches, measured, tmp_path):
    record = replace(measured, problems=("run r1 has no metric",))
    assert read_report(written(branches, record, tmp_path)) == (branches, record)


def test_no_file_for_what_is_not_there(plan, rows):
    assert [name for name, text in record_texts(plan, StudyRecord(rows)).items() if text] == ["cells.csv", "plan.json"]


def test_curves_of_other_cells_and_metrics_are_left_aside(branches, measured):
    strange = [CurvePoint("0" * 12, "val/loss", 1, 1.0), CurvePoint(branches.cells[0].key, "lr", 1, 1.0)]
    assert curves_csv(branches, [*measured.curves, *strange]) == curves_csv(branches, measured.curves)


def test_directory_of_before_is_read(plan, rows, tmp_path):
    """cells.csv and plan.json alone, without the study's newer fields."""
    written(plan, StudyRecord(rows), tmp_path)
    declared = json.loads((tmp_path / "plan.json").read_text())
    for name in ("base", "figure", "curves", "compares"):
        del declared["study"][name]
    (tmp_path / "plan.json").write_text(json.dumps(declared))
    read_plan, record = read_report(tmp_path)
    assert read_plan == plan
    assert [row.metrics for row in record.rows] == [row.metrics for row in rows]
    assert (record.problems, record.comparison, record.curves) == ((), (), ())


def test_teachers_stand_after_the_cells_with_their_role(taught, make_row, tmp_path):
    rows = [CellRow(cell.key, cell.seed, cell.factors, f"run{n}", {"test/top1": 0.9 + n / 1000}, {})
            for n, cell in enumerate((*taught.cells, *taught.teachers))]  # fmt: skip
    text = cells_csv(taught, rows)
    lines = [line.split(",") for line in text.splitlines()]
    assert lines[0][:6] == ["key", "role", "teacher", "seed", "factor.taught", "run_id"]
    assert [line[1] for line in lines[1:]] == ["cell"] * 6 + ["teacher"] * 3
    assert [line[2:5] for line in lines[-3:]] == [["small", str(seed), ""] for seed in range(3)]
    record = StudyRecord(tuple(rows))
    assert read_report(written(taught, record, tmp_path)) == (taught, record)


def test_missing_teacher_has_its_line(taught):
    lines = cells_csv(taught, []).splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [cell.key for cell in (*taught.cells, *taught.teachers)]


def test_teachers_are_told_apart_and_not_analysed(taught, tmp_path):
    rows = [CellRow(cell.key, cell.seed, cell.factors, f"run{n}", {"test/top1": 0.9}, {})
            for n, cell in enumerate(taught.cells)]  # fmt: skip
    values = (0.95, 0.96, 0.97)
    rows += [CellRow(cell.key, cell.seed, cell.factors, f"teacher{cell.seed}", {"test/top1": value}, {})
             for cell, value in zip(taught.teachers, values, strict=True)]  # fmt: skip
    page = write_report(taught, StudyRecord(rows), tmp_path / "all").page.read_text()
    assert "| small | trained first | 96.00 ± 2.48 | 3 |" in page
    assert f"| teacher small |  | 1 | 96.00 | `{taught.teachers[1].key}` | `teacher1` |" in page
    assert f"| cell | off | 0 | 90.00 | `{taught.cells[0].key}` | `run0` |" in page
    assert "Setting: tiny on digits, recipe digits, activation gelu, teacher small, 3 seeds per level." in page
    assert "- *taught* off: no teacher; on: teacher small" in page
    assert "| on | 90.00 ± 0.00 | 3 |" in page
    less = write_report(taught, StudyRecord(rows[:-2]), tmp_path / "less").page.read_text()
    assert "| small | trained first | 95.00 | 1 of 3 |" in less
    assert f"| teacher small |  | 2 | missing | `{taught.teachers[2].key}` |  |" in less


def test_teacher_from_a_file_is_named_by_its_hash(taught):
    teachers = (Teacher("timm:resnet50", "0123456789abcdef"),)
    base = replace(taught.base, recipe=replace(taught.base.recipe, teachers=teachers))
    rows = teachers_table(analyse(replace(taught, base=base), StudyRecord())).rows
    assert rows == (("timm:resnet50", "file 0123456789abcdef (SHA-256)", "-", "-"),)


@pytest.mark.parametrize("name", ["curves.csv", "comparison.csv"])
def test_broken_file_is_refused(branches, measured, tmp_path, name):
    written(branches, measured, tmp_path)
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text.replace("epoch", "time").replace("factor.branches", "factor.k"))
    with pytest.raises(InputError, match="its files cannot be read as one record"):
        read_report(tmp_path)


def test_value_that_is_no_number_stays_one(branches):
    point = CurvePoint(branches.cells[0].key, "val/loss", 1, math.nan)
    assert math.isnan(read_curves(curves_csv(branches, [point]))[0].value)
