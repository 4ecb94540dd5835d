"""A report as a document: the objects that every renderer in render/ takes.

Texts hold a small subset of Markdown, which does not nest: **strong**, *emphasis*, `code` and [text](target).
Markdown passes it on, the other renderers split it into spans.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mobileone_core.errors import require
from mobileone_core.texts import visible

MISSING = "-"  # the cell of a table that has no value

_MARKUP = re.compile(
    r"\*\*(?P<strong>\S|\S.*?\S)\*\*|\*(?P<emphasis>[^\s*]|[^\s*][^*]*[^\s*])\*|`(?P<code>[^`]+)`"
    r"|\[(?P<link>[^\]]+)\]\((?P<target>[^()\s]+)\)"
)


class Span(NamedTuple):
    """A stretch of a text in one style; target is where a link leads."""

    style: Literal["text", "strong", "emphasis", "code", "link"]
    text: str
    target: str = ""


def spans(text: str) -> Iterator[Span]:
    """Split a text at its markup, invisible characters as escapes."""
    text, end = visible(text), 0
    for match in _MARKUP.finditer(text):
        if match.start() > end:
            yield Span("text", text[end : match.start()])
        style = "link" if match["target"] else match.lastgroup
        yield Span(style, match[style], match["target"] or "")  # type: ignore[arg-type, index]
        end = match.end()
    if end < len(text):
        yield Span("text", text[end:])


def plain(text: str) -> str:
    """Remove the markup of a text."""
    return "".join(span.text for span in spans(text))


def number_text(value: float | None, digits: str = "#.3g") -> str:
    """Format a value with three digits, all digits from 1000 on; None as a missing cell."""
    return MISSING if value is None else format(value, digits if abs(value) < 999.5 else ",.0f").rstrip(".")


@dataclass(frozen=True)
class Paragraph:
    """A text; left out where it is empty."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """An unordered list of texts; left out where it is empty."""

    items: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A column's head and, in a second line, its unit or what its cells hold. Words align left, numbers right."""

    head: str
    note: str = ""
    is_text: bool = False


Number = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows of texts under their columns; the first `labels` columns name a row.

    numbers: what CSV shows instead of the texts, one mapping per row, columns by name; None is an empty cell.
    file: the stem of the CSV file to write, where the table gets one.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    numbers: tuple[Mapping[str, Number], ...] = ()
    file: str = ""

    def cell(self, row: str, column: str) -> str | None:
        """The text at a row and a column by their names; None where there is no such cell.

        A row is named by its labels ("on, off"), a column by its head, with its note where several heads are alike.
        """
        heads = [item.head for item in self.columns]
        full = [f"{item.head}, {item.note}" for item in self.columns]
        labels = [", ".join(cells[: self.labels]) for cells in self.rows]
        if row not in labels or (column not in full and heads.count(column) != 1):
            return None
        return self.rows[labels.index(row)][(full if column in full else heads).index(column)]


@dataclass(frozen=True)
class Figure:
    """An image by the stem of its files, NAME.png and, unless suffix is png, NAME.svg; alt describes it in words."""

    name: str
    alt: str
    caption: str = ""
    suffix: Literal["svg", "png"] = "svg"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under a summary."""

    summary: str
    blocks: Sequence["Block"]


Block = Paragraph | Bullets | Table | Figure | Details


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. The tables of a key section are also shown where a report is short: in a terminal."""

    heading: str
    blocks: Sequence[Block]
    is_key: bool = False


@dataclass(frozen=True)
class Document:
    """The content of a study's report, the answer first.

    name: the study's, by which other pages find its summary; title: its question; source: the paper's table;
    setting: what was trained or measured; notes: what the table's columns mean; problems: errors in the record;
    missing: cells without a value; values: facts that other pages quote, by name.
    """

    name: str
    title: str
    source: str
    setting: str
    verdict: str
    table: Table
    figure: Figure
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()
    missing: Sequence[str] = ()
    sections: Sequence[Section] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def lead(self) -> str:
        """Study, source and setting in a line."""
        return f"Study `{self.name}`, {self.source}. Setting: {self.setting}."

    @property
    def summary(self) -> tuple[Block, ...]:
        """Verdict, table and figure."""
        return Paragraph(f"**Verdict.** {self.verdict}"), self.table, self.figure

    @property
    def body(self) -> tuple[Section, ...]:
        """All sections after the summary and its notes, those without content left out."""
        listed = (("Errors in the record", self.problems), ("Missing", self.missing))
        lists = [Section(heading, (Bullets(items),)) for heading, items in listed if items]
        return (*lists, *(section for section in self.sections if section.blocks))

    @property
    def tables(self) -> list[Table]:
        """The main table, then those of the sections."""
        return [self.table, *(block for section in self.body for block in section.blocks if isinstance(block, Table))]

    def value(self, key: str) -> str:
        """A fact by its name, or a cell of any table by "row/column"; InputError for an unknown key."""
        row, _, column = key.rpartition("/")
        cells = [cell for table in self.tables if row and (cell := table.cell(row, column)) is not None]
        value = self.values.get(key, cells[0] if cells else None)
        first = ", ".join(self.table.rows[0][: self.table.labels]) if self.table.rows else "ROW"
        allowed = f"one of {', '.join(self.values)}, or row/column of a table: {first}/{self.table.columns[-1].head}"
        require(value is not None, f"value of {self.name}", key, allowed)
        return str(value)


def joined(names: Sequence[str]) -> str:
    """Names as a list in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
