"""A document as a page in GitHub's Markdown."""

from collections.abc import Sequence

from mobileone_core.reporting.document import Block, Bullets, Details, Document, Figure, Paragraph, Table


def render(document: Document, fingerprint: str, files: Sequence[str] = ()) -> str:
    """The page of a report directory: a comment names the record it shows and the files that belong to it.

    Markers enclose its summary, which `update_readme` copies into other pages.
    """
    name = document.name
    parts = [
        f"# {document.title}",
        f"<!-- Written by `mobileone report`; record {'; '.join([fingerprint, ', '.join(files)])}. -->",
        document.lead,
        f"<!-- table:{name} -->",
        *map(block_text, document.summary),
        f"<!-- end table:{name} -->",
        block_text(Bullets(document.notes)),
    ]
    for section in document.body:
        parts += [f"## {section.heading}", *map(block_text, section.blocks)]
    return "\n\n".join(filter(None, parts)) + "\n"


def block_text(block: Block) -> str:
    """One block; empty where it has no content."""
    match block:
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table():
            return table_text(block)
        case Figure():
            image = f"![{block.alt}]({block.name}.png)"
            return f"{image}\n\n{block.caption}" if block.caption else image
        case Details(summary, blocks):
            inside = "\n\n".join(filter(None, map(block_text, blocks)))
            return f"<details><summary>{summary}</summary>\n\n{inside}\n\n</details>"


def table_text(table: Table) -> str:
    """A table; texts align left, numbers right."""
    heads = [f"{column.head}<br>{column.note}" if column.note else column.head for column in table.columns]
    rules = ["---" if column.is_text else "--:" for column in table.columns]
    return "\n".join(_line(cells) for cells in (heads, rules, *table.rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
