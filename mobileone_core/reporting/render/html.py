"""A document as an HTML fragment: one article, every text escaped, files addressed relative to the report."""

from collections.abc import Sequence
from html import escape

from mobileone_core.reporting.document import Block, Bullets, Details, Document, Figure, Paragraph, Span, Table, spans

TAGS = {"strong": "strong", "emphasis": "em", "code": "code"}


def render(document: Document) -> str:
    """An article with the summary under h1 and one section per heading under h2."""
    blocks = (Paragraph(document.lead), *document.summary, Bullets(document.notes))
    body = [f"<h1>{inline(document.title)}</h1>", *map(_block, blocks)]
    for section in document.body:
        body.append(f"<section>\n<h2>{inline(section.heading)}</h2>\n{_blocks(section.blocks)}\n</section>")
    return "\n".join([f'<article id="{escape(document.name)}">', *filter(None, body), "</article>", ""])


def inline(text: str) -> str:
    """A text with its markup as tags. A link with a scheme other than http or https stays a text."""
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    text = escape(span.text)
    if span.style in TAGS:
        return f"<{TAGS[span.style]}>{text}</{TAGS[span.style]}>"
    is_safe = ":" not in span.target or span.target.startswith(("https://", "http://"))
    return f'<a href="{escape(span.target)}">{text}</a>' if span.style == "link" and is_safe else text


def _blocks(blocks: Sequence[Block]) -> str:
    return "\n".join(filter(None, map(_block, blocks)))


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{inline(text)}</p>" if text else ""
        case Bullets(items):
            lines = "\n".join(f"<li>{inline(item)}</li>" for item in items)
            return f"<ul>\n{lines}\n</ul>" if items else ""
        case Table():
            return _table(block)
        case Figure(name, alt, caption):
            caption_tag = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
            return f'<figure><img src="{escape(name)}.svg" alt="{escape(alt)}">{caption_tag}</figure>'
        case Details(summary, blocks):
            return f"<details><summary>{inline(summary)}</summary>\n{_blocks(blocks)}\n</details>"


def _table(table: Table) -> str:
    """Heads with scope="col"; the cells that name a row with scope="row"; numbers in cells of class "number"."""
    heads = ""
    for column in table.columns:
        note = f"<br><small>{inline(column.note)}</small>" if column.note else ""
        heads += f'<th scope="col">{inline(column.head)}{note}</th>'
    marks = ["" if column.is_text else ' class="number"' for column in table.columns]
    tags = ['th scope="row"'] * table.labels + [f"td{mark}" for mark in marks[table.labels :]]
    body = ""
    for row in table.rows:
        cells = (f"<{tag}>{inline(cell)}</{tag[:2]}>" for tag, cell in zip(tags, row, strict=True))
        body += f"<tr>{''.join(cells)}</tr>\n"
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body.rstrip()}\n</tbody>\n</table>"
