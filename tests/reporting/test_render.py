"""Every renderer gives the same document in its format; texts are escaped where the format has signs of its own."""

import csv
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.reporting.document import (
    Bullets,
    Column,
    Details,
    Document,
    Figure,
    Paragraph,
    Section,
    Span,
    Table,
    number_text,
    plain,
    spans,
)
from mobileone_core.reporting.render import csv as csv_renderer
from mobileone_core.reporting.render import html, latex, markdown, terminal

MAIN = Table(
    (Column("k"), Column("accuracy", "%"), Column("verdict", "against k = 1", is_text=True)),
    (("1", "98.0 ± 0.5", "baseline"), ("2", "-", "a | b & <c>")),
)
MORE = Table((Column("run", is_text=True),), (("`run_1`",),))
DOCUMENT = Document(
    name="branches",
    title="Is a < b?",
    source="table 6",
    setting="tiny on digits",
    verdict="k = 2 is **not measured**, see [the cells](cells.csv).",
    table=MAIN,
    figure=Figure("figure", 'A "figure"', "Drawn twice"),
    notes=("*Accuracy*: the mean",),
    problems=("cell `abc` is <broken>",),
    missing=("k = 2 (`def`)",),
    sections=(
        Section("Effects", (MAIN,), is_key=True),
        Section("Runs", (Paragraph(""), Bullets(()), Details("All runs", (MORE,)))),
        Section("Nothing", ()),
    ),
)


class Checker(HTMLParser):
    """Every opened element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(text):
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    return checker


def test_html_is_a_semantic_fragment():
    page = parsed(html.render(DOCUMENT))
    assert page.seen[0] == ("article", {"id": "branches"})
    tags = [tag for tag, _ in page.seen]
    assert [tags.count(tag) for tag in ("h1", "h2", "table", "figure", "figcaption", "details")] == [1, 4, 3, 1, 1, 1]
    assert [attrs["scope"] for tag, attrs in page.seen if tag == "th"][:5] == ["col"] * 3 + ["row"] * 2
    assert ("img", {"src": "figure.svg", "alt": 'A "figure"'}) in page.seen
    assert ("a", {"href": "cells.csv"}) in page.seen
    assert "a | b & <c>" in page.text
    assert "Is a < b?" in page.text


@given(st.text())
def test_html_shows_any_text_and_no_tag_of_its_own(text):
    document = Document("a", text, text, text, text, Table((Column(text),), ((text,),)), Figure("figure", text))
    page = parsed(html.render(document))
    known = {
        "article",
        "div",
        "h1",
        "p",
        "strong",
        "em",
        "code",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "figure",
        "img",
    }
    assert {tag for tag, _ in page.seen} <= known
    assert not any(attrs.get("href", "").lower().startswith("javascript") for _, attrs in page.seen)


def test_markdown_page_has_its_summary_between_markers():
    text = markdown.render(DOCUMENT, "0abc", ["table.csv", "figure.png"])
    assert text.startswith("# Is a < b?\n\n<!-- Written by `mobileone report`; record 0abc; table.csv, figure.png. -->")
    start, end = text.index("<!-- table:branches -->"), text.index("<!-- end table:branches -->")
    for part in ("**Verdict.** k = 2", "| 2 | - | a \\| b & <c> |", '![A "figure"](figure.png)'):
        assert start < text.index(part) < end
    headings = ["## Errors in the record", "## Missing", "## Effects", "## Runs"]
    assert [line for line in text.splitlines() if line.startswith("## ")] == headings
    assert "<details><summary>All runs</summary>\n\n| run |\n| --- |\n| `run_1` |\n\n</details>" in text


def test_terminal_shows_summary_and_key_tables_without_markup():
    text = terminal.render(DOCUMENT)
    assert text.count("98.0 ± 0.5") == 2
    assert "k = 2 is not measured, see the cells.\nerror: cell abc is <broken>\nmissing: k = 2 (def)" in text
    assert "run_1" not in text
    assert "**" not in text


def test_csv_has_numbers_where_there_are_some():
    assert list(csv.reader(io.StringIO(csv_renderer.table_csv(DOCUMENT.table)))) == [
        ["k", "accuracy, %", "verdict, against k = 1"], ["1", "98.0 ± 0.5", "baseline"], ["2", "", "a | b & <c>"]
    ]  # fmt: skip
    numbers = Table(MAIN.columns, MAIN.rows, numbers=({"k": 1, "mean": 1 / 3}, {"k": 2, "mean": None}))
    assert csv_renderer.table_csv(numbers) == "k,mean\n1,0.333333\n2,\n"


def test_latex_has_the_table_with_its_caption():
    lines = latex.render(DOCUMENT).splitlines()
    assert lines[0] == "% Is a < b? tiny on digits; table 6."
    assert lines[2] == r"\begin{tabular}{rrl}"
    assert r"2 & - & a | b \& <c> \\" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b c** d", [Span("text", "a "), Span("strong", "b c"), Span("text", " d")]),
        ("*Ratio*: 2 * 3 * 4", [Span("emphasis", "Ratio"), Span("text", ": 2 * 3 * 4")]),
        ("`a*b*c`", [Span("code", "a*b*c")]),
        ("[all](x.csv) [-1, 2]", [Span("link", "all", "x.csv"), Span("text", " [-1, 2]")]),
        ("", []),
    ],
)
def test_spans(text, expected):
    assert list(spans(text)) == expected


def test_plain_removes_markup():
    assert plain("**a** *b* `c` [d](e)") == "a b c d"


def test_numbers_have_three_digits_or_all_before_the_point():
    values = (None, 0.012345, 9.999, 123.4, 999.4, 999.5, 1234.6, -2_000_000)
    assert [*map(number_text, values)] == ["-", "0.0123", "10.0", "123", "999", "1,000", "1,235", "-2,000,000"]


def test_cell_of_a_table_by_its_names():
    columns = (Column("a"), Column("b"), Column("ratio", "to x"), Column("ratio", "to y"), Column("n"))
    table = Table(columns, (("on", "off", "1", "2", "3"), ("off", "off", "4", "5", "6")), labels=2)
    assert table.cell("off, off", "ratio, to y") == "5"
    assert table.cell("on, off", "n") == "3"
    for row, column in (("on, off", "ratio"), ("on", "n"), ("on, off", "m"), ("", "n")):
        assert table.cell(row, column) is None
