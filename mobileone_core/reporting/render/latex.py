"""A document's table for a LaTeX document that loads booktabs."""

import re

from mobileone_core.reporting.document import Document, spans
from mobileone_core.texts import visible

SIGNS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
SIGNS |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
STYLES = {"strong": "textbf", "emphasis": "emph", "code": "texttt"}


def render(document: Document) -> str:
    """The main table as a tabular; question, setting and source in a comment above it."""
    columns = document.table.columns
    heads = [column.head for column in columns], [column.note for column in columns]
    lines = [rf"{' & '.join(map(latex, line))} \\" for line in (*heads, *document.table.rows)]
    return visible("\n".join([
        f"% {document.title} {document.setting}; {document.source}.",
        "% Needs the booktabs package.",
        rf"\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in columns)}}}",
        r"\toprule",
        *lines[:2],
        r"\midrule",
        *lines[2:],
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]))  # fmt: skip


def latex(text: str) -> str:
    """Markup becomes commands; special characters are escaped, a minus before a number is mathematics."""
    result = ""
    for style, content, _ in spans(text):
        escaped = "".join(SIGNS.get(sign, sign) for sign in content)
        escaped = re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
        result += rf"\{STYLES[style]}{{{escaped}}}" if style in STYLES else escaped
    return result
