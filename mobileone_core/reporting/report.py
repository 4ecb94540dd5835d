"""A study's report directory: page, tables, figure, and the record they come from. No torch here.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileone_core.reporting.cells import read_cells, record_texts
from mobileone_core.reporting.document import Table
from mobileone_core.reporting.figures.style import drawing
from mobileone_core.reporting.files import kept_text, write_content
from mobileone_core.reporting.kinds import ReportKind, kind_of
from mobileone_core.reporting.render import csv, latex, markdown
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.rows import StudyRecord

PAGE = "README.md"
RENDERED = re.compile(r"<!-- Written by `mobileone report`; record (\w+); (.+)\. -->")


@dataclass(frozen=True)
class ReportFiles:
    """Where a study's report lies; rendered is False where it was already up to date.

    The directory holds README.md, table.csv, table.tex, figure.png, figure.svg, cells.csv and plan.json. Where there is
    something in them: curves.csv, curves.png, curves.svg, effects.csv, comparison.csv, problems.txt (of the record).
    """

    directory: Path
    rendered: bool

    @property
    def page(self) -> Path:
        return self.directory / "README.md"


def report_name(plan: AnyPlan) -> str:
    """The report's directory: the study's name, with what differs where the settings are not its own."""
    return plan.study.name if plan.default else f"{plan.study.name}-{kind_of(plan).suffix(plan)}"


def write_report(plan: AnyPlan, record: StudyRecord, directory: Path) -> ReportFiles:
    """Write directory/<study>/, unless it shows this very record already; problems are printed as errors."""
    home, kind = directory / report_name(plan), kind_of(plan)
    texts = record_texts(plan, record)
    fingerprint = hashlib.sha256("\0".join([str(kind.version), *texts.values()]).encode()).hexdigest()[:16]
    if _is_current(home, plan, texts, fingerprint):
        return ReportFiles(home, rendered=False)
    told = replace(record, problems=texts["problems.txt"].splitlines())
    contents: dict[str, str | bytes] = {**texts, **_rendered(kind, plan, told, fingerprint)}
    for name, content in contents.items():  # the page last: it vouches for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def _is_current(home: Path, plan: AnyPlan, texts: dict[str, str], fingerprint: str) -> bool:
    kind, page = kind_of(plan), kept_text(home / PAGE)
    listed = RENDERED.search(page)
    files = listed[2].split(", ") if listed else [PAGE]
    if not isinstance(kind, ReportKind):
        files = [PAGE, *kind.wanted(plan, texts)]
    if not all((home / name).is_file() for name in files):
        return False
    kept = all(kept_text(home / name) == text for name, text in texts.items())
    return kept and f"record {fingerprint}" in page


def _rendered(kind: Any, plan: AnyPlan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:  # noqa: ANN401
    """Tables and figures, and the page last, which lists them."""
    if not isinstance(kind, ReportKind):
        return dict(kind.contents(plan, record, fingerprint))
    result = kind.analyse(plan, record)
    document = kind.document(result)
    tables = [block for section in document.body for block in section.blocks if isinstance(block, Table) and block.file]
    contents: dict[str, str | bytes] = {
        "table.csv": csv.render(document),
        "table.tex": latex.render(document),
        **{f"{table.file}.csv": csv.table_csv(table) for table in tables},
    }
    for name, figure in kind.figures(result).items():
        drawn = drawing(figure)
        contents |= {f"{name}.png": drawn.png, f"{name}.svg": drawn.svg}
    return {**contents, PAGE: markdown.render(document, fingerprint, list(contents))}


def index_line(name: str, plan: AnyPlan, record: StudyRecord) -> str:
    """A report's line in the index: its name, question, verdict and setting."""
    kind = kind_of(plan)
    verdict = (
        kind.document(kind.analyse(plan, record)).verdict
        if isinstance(kind, ReportKind)
        else kind.verdict(plan, record)
    )
    return f"| [{name}]({name}/README.md) | {plan.study.question} | {verdict} ({kind.setting(plan)}) |"


def write_index(directory: Path, lines: Mapping[str, str] | None = None) -> Path:
    """Write directory/README.md: every report in it with its question and verdict.

    lines: those of reports that were just written, by name; the others are made from the report's cells.csv.
    """
    text = "# Reports\n\n| study | question | verdict |\n| --- | --- | --- |\n"
    for home in sorted(path.parent for path in directory.glob("*/plan.json")):
        line = (lines or {}).get(home.name) or index_line(home.name, *read_cells(home))
        text += f"{line}\n"
    index = directory / "README.md"
    if kept_text(index) != text:
        write_content(index, text)
    return index
