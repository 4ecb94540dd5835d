"""Names from old records: no control character, mark of direction or formula reaches a table or a CSV."""

import csv
import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mobileone_core.reporting.document import Column, Document, Figure, Table
from mobileone_core.reporting.render import csv as csv_renderer
from mobileone_core.reporting.render import html, latex, markdown, terminal
from mobileone_core.study.workspace import one_line
from mobileone_core.texts import csv_rows, csv_text, visible
from mobileone_core.training.tasks.classification import Mistakes

HOSTILE = "\x1b[31mred\x07 \u202egnp.exe\u2066 \x9b\r"
RUN = ("=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(A1:A9)", '=HYPERLINK("http://x")', "-A1", "+A1")
FORMULAS = (*RUN, "-(1)", "+1=2", "\x01=1+1", "\u202e=1", "-1 (=2)")
NUMBERS = (
    "-1",
    "+0.5",
    "-",
    "+0.44 [-0.56, +1.44]",
    "-0.29 points [-0.57, -0.01]",
    "1e-05",
    "-1e-05",
    "- 12 %",
    "+1,234",
)
MARKS = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x2028, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\ufeff"}


def is_harmless(text):
    return all(sign not in MARKS and (unicodedata.category(sign) != "Cc" or sign == "\n") for sign in text)


@given(st.text())
@example(HOSTILE)
def test_no_control_character_or_mark_of_direction_is_left(text):
    shown = visible(text)
    assert is_harmless(shown)
    assert visible(shown) == shown
    if is_harmless(text):
        assert shown == text


def cells(text):
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_name(text):
    ((cell,),) = cells(csv_text([[text]]))
    assert cell[0] in "'\\"  # an apostrophe, or an escape
    assert is_harmless(cell)


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_and_intervals_stay_as_they_are(text):
    assert cells(csv_text([[text]])) == [[text]]


plain_texts = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="".join(MARKS)))


@given(st.lists(plain_texts | st.sampled_from(RUN), min_size=1, max_size=4))
def test_what_is_written_is_read_back(texts):
    assert list(csv_rows(csv_text([["name"], *([text] for text in texts if text)]))) == [
        {"name": text} for text in texts if text and not (text[0] == "'" and text[1:] in RUN)
    ]


def test_empty_cells_and_numbers():
    assert csv_text([["a", "b"], [None, 1], [0.1, True]]) == "a,b\n,1\n0.1,True\n"
    assert list(csv_rows("")) == []


def document(name):
    table = Table((Column("device", is_text=True), Column("ms")), ((name, "1"),), file="table")
    return Document(
        "study", "Is it?", "table 1", f"on {name}", f"{name} is better", table, Figure("figure", name), (name,)
    )


@pytest.mark.parametrize(
    "render", [lambda made: markdown.render(made, "1"), html.render, latex.render, terminal.render]
)
def test_pages_and_terminals_show_escapes(render):
    text = render(document(HOSTILE))
    assert is_harmless(text)
    assert "gnp.exe" in text


def test_a_line_feed_in_a_name_makes_no_row():
    lines = markdown.block_text(document("x |\n| y").table).splitlines()
    assert len(lines) == 3


@pytest.mark.parametrize("name", [HOSTILE, *RUN])
def test_tables_as_csv_are_harmless(name):
    (_, (cell, _)) = cells(csv_renderer.table_csv(document(name).table))
    assert is_harmless(cell)
    assert cell[0] not in "=+-@"


def test_confusions_of_classes_with_such_names_are_harmless(tmp_path):
    Mistakes(2).save(tmp_path, ("=1+1", HOSTILE))
    head, *rows = cells((tmp_path / "confusion.csv").read_text())
    assert head[1] == rows[0][0] == "'=1+1"
    assert is_harmless(rows[1][0])


def test_errors_are_harmless_in_one_line():
    assert one_line(ValueError(HOSTILE)) == r"ValueError: \x1b[31mred\x07 \u202egnp.exe\u2066 \x9b"
