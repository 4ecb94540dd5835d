"""A document as a page in GitHub's Markdown."""

from collections.abc import Sequence

from mobileone_core.reporting.document import Block, Bullets, Details, Document, Figure, Paragraph, Table
from mobileone_core.texts import visible


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
    return visible("\n\n".join(filter(None, parts)) + "\n")


def block_text(block: Block) -> str:
    """A block as Markdown."""
    match block:
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(columns, rows):
            heads = [f"{column.head}<br>{column.note}" if column.note else column.head for column in columns]
            rules = ["---" if column.is_text else "--:" for column in columns]
            lines = (" | ".join(cell.replace("|", r"\|") for cell in cells) for cells in (heads, rules, *rows))
            return "\n".join(f"| {line} |".replace("\n", " ") for line in lines)
        case Figure(name, alt, caption):
            return f"![{alt}]({name}.png)" + (f"\n\n{caption}" if caption else "")
        case Details(summary, blocks):
            inside = "\n\n".join(filter(None, map(block_text, blocks)))
            return f"<details><summary>{summary}</summary>\n\n{inside}\n\n</details>"
