"""The site: a page per report and an index with the ledger, which open from disk without a network.

Pages are templates/ filled with the documents that every renderer takes; figures are the reports' SVG files, inline.
"""

import re
import tomllib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileone_core.files import saved_text
from mobileone_core.reporting.document import Block, Column, Details, Document, Figure, Table
from mobileone_core.reporting.ledger.claims import NOTES
from mobileone_core.reporting.ledger.ledger import Verdict, by_claim, state_counts, verdict_text
from mobileone_core.reporting.render import html
from mobileone_core.study.factor import field_text
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import Plan
from mobileone_core.training.recipe import Recipe

if TYPE_CHECKING:
    import jinja2

SITE = "index.html"
UI = "http://127.0.0.1:5000"  # of `mobileone ui` by default
RUN = re.compile(r"<code>([0-9a-f]{32})</code>")
DOWNLOADS = ("README.md", "*.csv", "*.tex", "*.json", "*.svg", "*.png")


def index_page(rows: Sequence[Verdict], repeated: Sequence[str], studies: Mapping[str, Document]) -> str:
    """Return the index: the ledger, if a report is evidence of a claim, and every study by its directory's name."""
    groups = by_claim(rows) if any(row.evidence for row in rows) else []
    content = {"groups": groups, "counts": state_counts(rows), "notes": NOTES, "studies": studies}
    return _environment().get_template("index.html").render(content, repeated=repeated)


def study_page(home: Path, plan: Plan, document: Document, rows: Sequence[Verdict]) -> str:
    """Return the page of a report in its directory home, with the claims of the ledger that it is evidence of."""
    captions = tomllib.loads((files(__package__) / "templates" / "captions.toml").read_text(encoding="utf-8"))
    shown = _figures([*document.summary, *(block for section in document.body for block in section.blocks)])
    figures = dict[str, str]()
    for item in shown:
        svg = home / f"{item.name}.svg"
        if item.suffix == "png":
            source = f"data:image/png;base64,{b64encode((home / f'{item.name}.png').read_bytes()).decode()}"
            image, caption = f'<img src="{source}" alt="{escape(item.alt)}">', html.inline(item.caption)
        elif "<svg" in saved_text(svg):
            image, caption = inline_svg(svg, item), captions[caption_key(plan, item.name)]
        else:
            continue
        figures[item.name] = f"{image}<figcaption>{caption}</figcaption>"
    template = _environment().get_template("study.html")
    return template.render(
        name=home.name,
        document=document,
        figures=figures,
        claims=[(row, item) for row in rows for item in row.evidence if item.report == home.name],
        is_trained=isinstance(plan, GridPlan),
        plan=plan,
        deviations=deviations(plan),
        ui=UI,
        downloads=[path.name for pattern in DOWNLOADS for path in sorted(home.glob(pattern))],
    )


@cache
def _environment() -> "jinja2.Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "inline": lambda text: Markup(html.inline(text)),
        "block": lambda block, figures: Markup(
            RUN.sub(rf'<a class="run" href="{UI}/#/runs/\1"><code>\1</code></a>', html.block_html(block, figures))
        ),
        "evidence": lambda row: Markup(html.inline(verdict_text(row, SITE))),
        "slug": lambda text: text.replace(" ", "-"),
    }
    return environment


def _figures(blocks: Sequence[Block]) -> list[Figure]:
    """The figures among blocks, those inside details too."""
    nested = [item for block in blocks if isinstance(block, Details) for item in _figures(block.blocks)]
    return [block for block in blocks if isinstance(block, Figure)] + nested


def caption_key(plan: Plan, name: str) -> str:
    """Return which caption a plan's figure has."""
    if isinstance(plan, GridPlan):
        return name if name == "curves" else f"trained-{plan.study.figure}"
    view = getattr(plan.study, "view", "search")
    return "measured-levels" if view == "levels" else str(view)


def inline_svg(path: Path, figure: Figure) -> str:
    """Return an SVG file as an element: it scales, its ids start with the figure's name, its styles stay inside."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{figure.name}-", text)
    text = re.sub(r'<style type="text/css">\*', "<style>figure svg *", text)
    head, _, rest = text.partition(">")
    head = re.sub(r'\s(?:width|height|version|xmlns)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(figure.alt)}">{rest.rstrip()}'


def deviations(plan: Plan) -> Table | None:
    """Return how network, data and recipe differ from the paper's, without what a factor varies; None if nowhere."""
    if not isinstance(plan, GridPlan):
        return None
    varied = {name for factor in plan.study.factors for name in factor.set_fields}
    data = plan.base.data
    rows: list[tuple[str, ...]] = []
    if not re.fullmatch(r"s[0-4]", plan.study.variant):
        rows.append(("network", plan.study.variant, "s0 to s4"))
    if data.name != "imagenet":
        rows.append(("data", f"{data.name} at {data.image_size} px", "imagenet at 224 px"))
    for name, theirs in vars(Recipe()).items():
        if (value := getattr(plan.base.recipe, name)) != theirs and f"recipe.{name}" not in varied:
            rows.append((name.replace("_", " "), *(_value_text(name, item) for item in (value, theirs))))
    heads = (Column("what", is_text=True), Column("here", is_text=True), Column("paper", is_text=True))
    return Table(heads, tuple(rows)) if rows else None


def _value_text(name: str, value: Any) -> str:
    return "none" if value in ((), None, "") else field_text(name, value).removeprefix(f"{name} ")
