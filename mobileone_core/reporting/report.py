"""A study's report directory: page, tables, figure, and the record they come from. No torch here.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobileone_core.reporting.cells import read_cells, record_texts
from mobileone_core.reporting.files import kept_text, write_content
from mobileone_core.reporting.kinds import kind_of
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.rows import StudyRecord

PAGE = "README.md"


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
    contents = {**texts, **kind.contents(plan, told, fingerprint)}
    for name, content in contents.items():  # the page last: it vouches for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def _is_current(home: Path, plan: AnyPlan, texts: dict[str, str], fingerprint: str) -> bool:
    if not all((home / name).is_file() for name in (PAGE, *kind_of(plan).wanted(plan, texts))):
        return False
    kept = all(kept_text(home / name) == text for name, text in texts.items())
    return kept and f"record {fingerprint}." in kept_text(home / PAGE)


def write_index(directory: Path, records: Mapping[str, tuple[AnyPlan, StudyRecord]] | None = None) -> Path:
    """Write directory/README.md: every report in it with its question and verdict.

    records: plans with their records by the report's name; those of other reports are read from their cells.csv.
    """
    lines = ["# Reports", "", "| study | question | verdict |", "| --- | --- | --- |"]
    for home in sorted(path.parent for path in directory.glob("*/plan.json")):
        plan, record = (records or {}).get(home.name) or read_cells(home)
        kind = kind_of(plan)
        told = f"{kind.verdict(plan, record)} ({kind.setting(plan)})"
        lines.append(f"| [{home.name}]({home.name}/README.md) | {plan.study.question} | {told} |")
    index, text = directory / "README.md", "\n".join(lines) + "\n"
    if kept_text(index) != text:
        write_content(index, text)
    return index
