"""A study's report directory: page, tables, figure, and the record they come from. No torch here.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from mobileone_core.reporting.cells import kept_text, read_cells, record_texts
from mobileone_core.reporting.effects import effects_csv
from mobileone_core.reporting.files import write_content
from mobileone_core.reporting.page import page_text, setting
from mobileone_core.reporting.result import Result, analyse
from mobileone_core.reporting.style import Drawing
from mobileone_core.reporting.tables import table_csv, table_tex
from mobileone_core.reporting.words import table_of, verdict
from mobileone_core.study.effects import asked_effects
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord

RENDERER = 3  # raised when a report of the same record is to look different

RENDERED = ("table.csv", "table.tex", "figure.png", "figure.svg", "README.md")
CURVES = ("curves.png", "curves.svg")
EFFECTS = ("effects.csv",)


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


def report_name(plan: Plan) -> str:
    """The report's directory: the study's name, with what differs where the settings are not its own."""
    study = plan.study
    return study.name if plan.default else f"{study.name}-{study.variant}-{study.data}-{plan.id}"


def write_report(plan: Plan, record: StudyRecord, directory: Path) -> ReportFiles:
    """Write directory/<study>/, unless it shows this very record already; problems are printed as errors."""
    home = directory / report_name(plan)
    texts = record_texts(plan, record)
    fingerprint = hashlib.sha256("\0".join([str(RENDERER), *texts.values()]).encode()).hexdigest()[:16]
    if _is_current(home, plan, texts, fingerprint):
        return ReportFiles(home, rendered=False)
    result = analyse(plan, replace(record, problems=texts["problems.txt"].splitlines()))
    caption = f"{plan.study.question} {setting(plan)}; {plan.study.source}."
    contents: dict[str, str | bytes] = dict(texts)
    contents |= {"table.csv": table_csv(result), "table.tex": table_tex(table_of(result), caption)}
    contents["effects.csv"] = effects_csv(result)
    contents |= {**_figures(result, has_curves=bool(texts["curves.csv"])), "README.md": page_text(result, fingerprint)}
    for name, content in contents.items():  # the page last: it vouches for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def _figures(result: Result, has_curves: bool) -> dict[str, bytes]:
    """Every figure's files; empty where there is no such figure."""
    from mobileone_core.reporting.curve_figure import draw_curves
    from mobileone_core.reporting.figure import draw

    main = draw(result)
    curves = draw_curves(result) if has_curves else Drawing(b"", b"")
    return {"figure.png": main.png, "figure.svg": main.svg, "curves.png": curves.png, "curves.svg": curves.svg}


def _is_current(home: Path, plan: Plan, texts: dict[str, str], fingerprint: str) -> bool:
    wanted = [*RENDERED, *(CURVES if texts["curves.csv"] else ()), *(EFFECTS if asked_effects(plan.study) else ())]
    if not all((home / name).is_file() for name in wanted):
        return False
    kept = all(kept_text(home / name) == text for name, text in texts.items())
    return kept and f"record {fingerprint}." in kept_text(home / "README.md")


def write_index(directory: Path) -> Path:
    """directory/README.md: every report in it with its question and verdict."""
    lines = ["# Reports", "", "| study | question | verdict |", "| --- | --- | --- |"]
    for home in sorted(path.parent for path in directory.glob("*/plan.json")):
        plan, record = read_cells(home)
        told = verdict(analyse(plan, record))
        lines.append(f"| [{home.name}]({home.name}/README.md) | {plan.study.question} | {told} ({setting(plan)}) |")
    index, text = directory / "README.md", "\n".join(lines) + "\n"
    if kept_text(index) != text:
        write_content(index, text)
    return index
