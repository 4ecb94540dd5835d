"""A report's verdict, table and figure, copied into a page elsewhere."""

import os
import re
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.files import write_content

START = re.compile(r"<!-- table:(\S+) -->")


def update_readme(readme: Path, page: Path) -> bool:
    """Replace the block between the readme's <!-- table:NAME --> and <!-- end table:NAME --> by the page's.

    Links to files beside the page are made relative to the readme. Returns whether the readme changed.
    Raises InputError where a page or readme has no such block.
    """
    text, source = readme.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    found = START.search(source)
    if found is None:
        raise InputError(f"{page}: no <!-- table:NAME --> block")
    name = found[1]
    beside = Path(os.path.relpath(page.parent, readme.parent)).as_posix()
    block = re.sub(r"\]\((?!\w+:|/|#)", f"]({beside}/", source[slice(*_span(source, name, page))])
    start, end = _span(text, name, readme)
    updated = text[:start] + block + text[end:]
    if updated != text:
        write_content(readme, updated)
    return updated != text


def _span(text: str, name: str, path: Path) -> tuple[int, int]:
    """Where a block's inside starts and ends."""
    opening, closing = f"<!-- table:{name} -->", f"<!-- end table:{name} -->"
    if text.count(opening) != 1 or text.count(closing) != 1 or text.index(opening) > text.index(closing):
        raise InputError(f"{path}: one {opening} and one {closing} after it are needed")
    return text.index(opening) + len(opening), text.index(closing)
