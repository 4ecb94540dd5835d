"""A study's report directory: page, tables, figure, and the record they come from. No torch here.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.reporting.cells import cells_text, plan_text, read_cells
from mobileone_core.reporting.files import write_content
from mobileone_core.reporting.page import page_text, setting
from mobileone_core.reporting.result import analyse
from mobileone_core.reporting.tables import table_csv, table_tex
from mobileone_core.reporting.words import table_of, verdict
from mobileone_core.study.declaration import Plan
from mobileone_core.study.rows import CellRow

RENDERER = 1  # raised when a report of the same record is to look different


RENDERED = ("table.csv", "table.tex", "figure.png", "figure.svg", "README.md")


@dataclass(frozen=True)
class ReportFiles:
    """Where a study's report lies; rendered is False where it was already up to date.

    The directory holds README.md, table.csv, table.tex, figure.png, figure.svg, cells.csv and plan.json, and
    problems.txt where the record has errors.
    """

    directory: Path
    rendered: bool

    @property
    def page(self) -> Path:
        return self.directory / "README.md"


def report_name(plan: Plan) -> str:
    """The report's directory: the study's name, with what differs where the settings are not its own."""
    study = plan.study
    return study.name if plan.default else f"{study.name}-{study.variant}-{study.data}-{plan.id}"


def write_report(plan: Plan, rows: Sequence[CellRow], problems: Sequence[str], directory: Path) -> ReportFiles:
    """Write directory/<study>/, unless it shows this very record already; problems are printed as errors."""
    home = directory / report_name(plan)
    problems = [" ".join(problem.split()) for problem in problems]
    record = {"cells.csv": cells_text(plan, rows), "plan.json": plan_text(plan)}
    record["problems.txt"] = "".join(f"{problem}\n" for problem in problems)
    fingerprint = hashlib.sha256("\0".join([str(RENDERER), *record.values()]).encode()).hexdigest()[:16]
    if _is_current(home, record, fingerprint):
        return ReportFiles(home, rendered=False)
    from mobileone_core.reporting.figure import draw

    result = analyse(plan, rows, problems)
    figure = draw(result)
    caption = f"{plan.study.question} {setting(plan)}; {plan.study.source}."
    contents: dict[str, str | bytes] = dict(record)
    contents |= {"table.csv": table_csv(result), "table.tex": table_tex(table_of(result), caption)}
    contents |= {"figure.png": figure.png, "figure.svg": figure.svg, "README.md": page_text(result, fingerprint)}
    for name, content in contents.items():  # the page last: it vouches for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def _is_current(home: Path, record: dict[str, str], fingerprint: str) -> bool:
    if not all((home / name).is_file() for name in RENDERED):
        return False
    kept = all(_text(home / name) == text for name, text in record.items())
    return kept and f"record {fingerprint}." in _text(home / "README.md")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_problems(directory: Path) -> list[str]:
    """The errors a report was written with."""
    return _text(directory / "problems.txt").splitlines()


def write_index(directory: Path) -> Path:
    """directory/README.md: every report in it with its question and verdict."""
    lines = ["# Reports", "", "| study | question | verdict |", "| --- | --- | --- |"]
    for home in sorted(path.parent for path in directory.glob("*/plan.json")):
        plan, rows = read_cells(home)
        told = verdict(analyse(plan, rows, read_problems(home)))
        lines.append(f"| [{home.name}]({home.name}/README.md) | {plan.study.question} | {told} ({setting(plan)}) |")
    index, text = directory / "README.md", "\n".join(lines) + "\n"
    if _text(index) != text:
        write_content(index, text)
    return index
