"""Names from outside, made harmless in terminals, pages and spreadsheets; CSV is written and read here alone."""

import csv
import io
import re
from collections.abc import Iterable, Iterator

_INVISIBLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
FORMULA = r"(?=[=@]|[+-](?!(\d[\d.,]*(e[+-]?\d+)?)?( [^(|!=@]*)?$))"  # not -1, +0.5 [-0.1, +1.1] and -
SIGNS, ESCAPED = ("=", "@", "+", "-"), re.compile(f"'{FORMULA}")


def visible(text: str) -> str:
    """Write control characters and marks of direction as escapes, such as \\x1b; line feeds stay."""
    if text.isprintable():  # which these characters are not; most texts end here
        return text
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def csv_text(lines: Iterable[Iterable[object]]) -> str:
    """Lines as CSV; None is an empty cell. Before a text that a spreadsheet would run stands an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in lines:
        cells = ("" if cell is None else visible(str(cell)) for cell in line)
        writer.writerow([f"'{cell}" if cell.startswith(SIGNS) and re.match(FORMULA, cell) else cell for cell in cells])
    return text.getvalue()


def csv_rows(text: str) -> Iterator[dict[str, str]]:
    """The lines of a CSV after its heads, cells by column, without these apostrophes; none of an empty text."""
    for line in csv.DictReader(io.StringIO(text), strict=True):
        yield {name: cell[1:] if cell and ESCAPED.match(cell) else cell for name, cell in line.items()}
