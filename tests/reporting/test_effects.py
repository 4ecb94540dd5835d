"""A study of several factors: its page, terminal, files and verdict speak of effects first.

By hand for the rows below: residual sum of squares 8 x 0.02 - 0.02 / 8 = 0.1575 over 14 degrees of freedom, so the
standard error of a main effect is 0.0433 points; t at 99.64 % is 3.146, the half width 0.14, an interaction's 0.27.
"""

import csv
import io
from dataclasses import replace

import pytest

from mobileone_core.reporting.document import Column
from mobileone_core.reporting.figures import levels as figure
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.render import markdown, terminal
from mobileone_core.reporting.render.csv import table_csv
from mobileone_core.reporting.report import document_of, write_report
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import effects_table, main_table
from mobileone_core.reporting.trained.verdict import verdict
from mobileone_core.study.declaration import Factor
from mobileone_core.study.effects import Effect
from mobileone_core.study.rows import CellRow, StudyRecord

FACTORS = (
    Factor("progressive", settings={"off": {"recipe.nesterov": False}, "on": {}}, baseline="off"),
    Factor("annealing", settings={"off": {"recipe.momentum": 0.5}, "on": {}}, baseline="off"),
    Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off"),
)  # fmt: skip
NOISE = (0.1, -0.1, 0.0)  # a seed's place in it turns with the arm
ALL_OFF = "progressive = off, annealing = off, ema = off"


def row_of(cell, place):
    """ema adds 2 points, progressive and annealing together half a point more than nothing; seeds half a point each."""
    on = {name for name, level in cell.factors.items() if level == "on"}
    percent = 95 + 2.0 * ("ema" in on) + 0.5 * ({"progressive", "annealing"} <= on)
    percent += 0.5 * cell.seed + NOISE[(cell.seed + place) % 3]
    return CellRow(cell.key, cell.seed, cell.factors, f"run{place}{cell.seed}", {"test/top1": percent / 100}, {})


@pytest.fixture(scope="module")
def cube(make_plan):
    return make_plan(name="cube", factors=FACTORS, published="table8_training_settings_s2_top1")


@pytest.fixture(scope="module")
def record(cube):
    return StudyRecord([row_of(cell, index % 8) for index, cell in enumerate(cube.cells)])


@pytest.fixture(scope="module")
def result(cube, record):
    return analyse(cube, record)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take seconds and say nothing of effects."""
    monkeypatch.setattr(figure, "draw", lambda _: Drawing(b"png", b"svg"))


def test_effects_are_in_the_shown_unit(result):
    found = {row.label: row.difference for row in result.effects}
    expected = {"progressive": 0.25, "annealing": 0.25, "ema": 2.0, "progressive x annealing": 0.5}
    nothing = dict.fromkeys(["progressive x ema", "annealing x ema", "progressive x annealing x ema"], 0.0)
    assert found == pytest.approx(expected | nothing, abs=1e-9)
    assert [row.verdict for row in result.effects] == ["raises"] * 4 + ["no effect shown"] * 3


def test_verdict_speaks_of_effects_first(result):
    answer = verdict(result)
    assert answer.startswith(
        "progressive raises test top-1: +0.25 points [+0.12, +0.38]. annealing raises test top-1: "
    )
    assert (
        "ema raises test top-1: +2.00 points [+1.82, +2.18]. The interaction progressive x annealing raises " in answer
    )
    assert (
        "3 seeds show no interaction of progressive x ema, annealing x ema and progressive x annealing x ema ("
        in answer
    )
    assert answer.endswith(f"7 combinations against {ALL_OFF}: 5 better, 2 no difference shown.")
    assert answer.count(ALL_OFF) == 1


def test_page_has_a_section_of_effects(result):
    text = markdown.render(trained_document(result), "0")
    assert "## Main effects and interactions\n\n| effect | estimate, points<br>[simultaneous 95 %] |" in text
    assert "| progressive x annealing | +0.50 [+0.24, +0.76] | raises | 0.33 |" in text
    assert "(each at 99.29 %) cover these 7 effects" in text
    assert "the change of a's effect when b is set too" in text


def test_arms_have_a_column_a_factor(result):
    table = main_table(result)
    assert [column.head for column in table.columns[:4]] == [factor.name for factor in FACTORS] + [
        "measured test top-1, %"
    ]
    assert table.rows[5][:3] == ("on", "off", "on")
    assert table.columns[7] == Column("verdict", "against the baseline", is_text=True)
    line = list(csv.DictReader(io.StringIO(table_csv(main_table(result)))))[5]
    assert line["level"] == "progressive = on, annealing = off, ema = on"
    assert [line[f"factor.{factor.name}"] for factor in FACTORS] == ["on", "off", "on"]


def test_published_gains_have_a_column_of_their_own(result):
    gain = "published gain over the previous row of table 8, S2"
    assert main_table(result).columns[-2:] == (Column("published S2", "%"), Column(gain, "points"))
    shown = {row[:3]: row[-2:] for row in main_table(result).rows if row[-2:] != ("-", "-")}
    assert shown == {("on", "off", "off"): ("-", "+0.4"), ("on", "on", "off"): ("-", "+0.5"),
                     ("on", "on", "on"): ("77.4", "-")}  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(table_csv(main_table(result)))))
    assert [line["published_gain_over_the_previous_row_of_table_8_s2_points"] for line in lines][4:7:2] == [
        "+0.4",
        "+0.5",
    ]
    assert [line["published_s2"] for line in lines] == [""] * 7 + ["77.4"]


def test_csv_has_the_plain_numbers(result):
    lines = list(csv.DictReader(io.StringIO(table_csv(effects_table(result)))))
    assert len(lines) == 7
    for line, row in zip(lines, result.effects, strict=True):
        assert (line["effect"], line["order"], line["verdict"]) == (row.label, str(row.order), row.verdict)
        for name in ("difference", "low", "high", "p", "p_holm", "detectable"):
            assert float(line[name]) == pytest.approx(getattr(row, name), rel=1e-5)
        assert (line["metric"], line["unit"], line["confidence"]) == ("test/top1", "points", "0.992857")


@pytest.mark.usefixtures("undrawn")
def test_report_keeps_effects_csv(cube, record, tmp_path):
    home = write_report(cube, record, tmp_path).directory
    before = (home / "effects.csv").read_text()
    assert not write_report(cube, record, tmp_path).rendered
    (home / "effects.csv").unlink()
    assert write_report(cube, record, tmp_path).rendered
    assert (home / "effects.csv").read_text() == before == table_csv(effects_table(analyse(cube, record)))


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_one_factor_has_none(plan, rows, tmp_path):
    result = analyse(plan, StudyRecord(rows))
    assert result.effects == ()
    assert "Main effects" not in markdown.render(trained_document(result), "0")
    assert not (write_report(plan, StudyRecord(rows), tmp_path).directory / "effects.csv").exists()


def test_terminal_shows_both_tables(cube, record):
    text = terminal.render(document_of(cube, record))
    assert "progressive x annealing  +0.50 [+0.24, +0.76]           raises         0.33" in text
    assert text.index("published") < text.index("[+0.23, +0.77]") < text.index("progressive raises test top-1")
    assert all(len(line) <= 150 for line in text.splitlines()[:-1])


def test_marginal_effects_where_levels_are_more(make_plan):
    factors = (Factor("width", "model.width", (0.5, 1.0, 2.0), 1.0), Factor("depth", "model.depth", (1.0, 2.0), 1.0))
    plan = make_plan(factors=factors, published="")
    rows = [row_of(replace(cell, factors=cell.factors), index % 6) for index, cell in enumerate(plan.cells)]
    result = analyse(plan, StudyRecord(rows))
    assert [row.label for row in result.effects] == ["width = 0.5", "width = 2.0", "depth = 2.0"]
    text = markdown.render(trained_document(result), "0")
    assert "## Main effects\n" in text
    assert "Interactions are estimated where every factor has two levels." in text
    assert verdict(result).startswith("3 seeds show no main effect of width = 0.5, width = 2.0 and depth = 2.0 (")


def test_what_is_missing_is_said(cube, record):
    one = analyse(cube, StudyRecord([row for row in record.rows if row.seed == 0]))
    assert verdict(one).startswith("No main effect is tested: not enough seeds. 7 combinations")
    assert verdict(one).endswith("Incomplete: 8 of 24 cells are recorded.")
    none = analyse(cube, StudyRecord())
    assert verdict(none).startswith("No main effect is tested: not estimable, a combination has no value.")
    assert all(line.endswith(",,,,,,not estimable") for line in table_csv(effects_table(none)).splitlines()[1:])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "borderline",
            "a and b (main effects): borderline (only one of Holm's test and the simultaneous interval finds",
        ),
        ("no spread", "No main effect is tested: not tested, the values have no spread."),
    ],
)
def test_open_effects_are_named(result, kind, words):
    rows = [Effect({name: "on"}, verdict=kind, difference=0.3, low=0.1, high=0.5, detectable=0.2) for name in "ab"]
    assert verdict(replace(result, effects=tuple(rows))).startswith(words)
