"""Parts of a report in another page, between the markers that the room's README describes."""

import os
import re
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.files import write_content
from mobileone_core.reporting.document import Document

START = re.compile(r"<!-- table:(\S+) -->")
VALUE = re.compile(r"(<!-- value:([^\s:]+):(.+?) -->)(?:(?!<!--).)*(<!-- end value -->)?", re.DOTALL)


def update_readme(readme: Path, page: Path) -> bool:
    """Replace the readme's summary of a study by that of a report's page; return whether the readme changed.

    Links to files next to the page become relative to the readme. Raises InputError where one has no such block.
    """
    text, source = readme.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    if not (marker := START.search(source)):
        raise InputError(f"{page}: no <!-- table:NAME --> block")
    name = marker[1]
    prefix = Path(os.path.relpath(page.parent, readme.parent)).as_posix()
    block = re.sub(r"\]\((?!\w+:|/|#)", f"]({prefix}/", source[slice(*_span(source, name, page))])
    start, end = _span(text, name, readme)
    return _write(readme, text, text[:start] + block + text[end:])


def update_values(readme: Path, name: str, document: Document) -> bool:
    """Fill a report's value markers; return whether the readme changed. Raises InputError for a wrong key or marker."""

    def filled(match: re.Match[str]) -> str:
        start, study, key, end = match.groups()
        if study != name:
            return match[0]
        if not end:
            raise InputError(f"{readme}: {start} needs an <!-- end value --> before the next comment")
        return f"{start}{document.value(key)}{end}"

    text = readme.read_text(encoding="utf-8")
    return _write(readme, text, VALUE.sub(filled, text))


def quoted_reports(text: str) -> set[str]:
    """The names of all reports that a page's value markers quote."""
    return {match[2] for match in VALUE.finditer(text)}


def _write(readme: Path, text: str, updated: str) -> bool:
    if updated != text:
        write_content(readme, updated)
    return updated != text


def _span(text: str, name: str, path: Path) -> tuple[int, int]:
    """Start and end of the inside of a block."""
    opening, closing = f"<!-- table:{name} -->", f"<!-- end table:{name} -->"
    if text.count(opening) != 1 or text.count(closing) != 1 or text.index(opening) > text.index(closing):
        raise InputError(f"{path}: one {opening} and one {closing} after it are needed")
    return text.index(opening) + len(opening), text.index(closing)
