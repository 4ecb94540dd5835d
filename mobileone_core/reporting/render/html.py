"""A document as an HTML fragment: one article, every text escaped, files addressed relative to the report."""

from collections.abc import Mapping, Sequence
from html import escape

from mobileone_core.reporting.document import Block, Bullets, Details, Document, Figure, Paragraph, Table, plain, spans
from mobileone_core.texts import visible

TAGS = {"strong": "strong", "emphasis": "em", "code": "code"}


def render(document: Document) -> str:
    """An article with the summary under h1 and one section per heading under h2."""
    blocks = (Paragraph(document.lead), *document.summary, Bullets(document.notes))
    body = [f"<h1>{inline(document.title)}</h1>", *map(block_html, blocks)]
    for section in document.body:
        body.append(f"<section>\n<h2>{inline(section.heading)}</h2>\n{_blocks(section.blocks, {})}\n</section>")
    return visible("\n".join([f'<article id="{escape(document.name)}">', *filter(None, body), "</article>", ""]))


def inline(text: str) -> str:
    """A text with its markup as tags. A link with a scheme other than http or https stays a text."""
    html = ""
    for style, content, target in spans(text):
        shown = escape(content)
        if style in TAGS:
            shown = f"<{TAGS[style]}>{shown}</{TAGS[style]}>"
        elif style == "link" and (":" not in target or target.startswith(("https://", "http://"))):
            shown = f'<a href="{escape(target)}">{shown}</a>'
        html += shown
    return html


def _blocks(blocks: Sequence[Block], figures: Mapping[str, str]) -> str:
    return "\n".join(filter(None, (block_html(block, figures) for block in blocks)))


def block_html(block: Block, figures: Mapping[str, str] | None = None) -> str:
    """A block as HTML. figures: elements to show instead of images, by the figure's name."""
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
            image = f'<img src="{escape(name)}.{block.suffix}" alt="{escape(alt)}">{caption_tag}'
            return f"<figure>{(figures or {}).get(name, image)}</figure>"
        case Details(summary, blocks):
            return f"<details><summary>{inline(summary)}</summary>\n{_blocks(blocks, figures or {})}\n</details>"


def _table(table: Table) -> str:
    """A table that scrolls: heads of columns and rows have their scope, and cells of numbers the class "number"."""
    heads = ""
    marks = ["" if column.is_text else ' class="number"' for column in table.columns]
    for column, mark in zip(table.columns, marks, strict=True):
        note = f"<br><small>{inline(column.note)}</small>" if column.note else ""
        heads += f'<th scope="col"{mark}>{inline(column.head)}{note}</th>'
    tags = ['<th scope="row">%s</th>'] * table.labels + [f"<td{mark}>%s</td>" for mark in marks[table.labels :]]
    line = f"<tr>{''.join(tags)}</tr>"
    body = "\n".join(line % tuple(map(inline, row)) for row in table.rows)  # raises for a row of another length
    label = escape(", ".join(plain(column.head) for column in table.columns))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {label}">\n<table class="sortable">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )
