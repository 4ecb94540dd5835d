"""Report directories: writing them from a plan and its record, reading them back, and the index over them.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.files import saved_text, write_content
from mobileone_core.reporting.document import Document, Table
from mobileone_core.reporting.kinds import kind_of
from mobileone_core.reporting.render import csv, latex, markdown, terminal
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord

PAGE, PLAN, PROBLEMS = "README.md", "plan.json", "problems.txt"
SUMMARY = re.compile(
    r"\A# (.*)$[\s\S]*?^Study .* (?:Setting|Measured|Searched): (.*)\.$[\s\S]*?^\*\*Verdict\.\*\* (.*)$", re.MULTILINE
)
STAMP = re.compile(r"<!-- Written by `mobileone report`; record (\w+)(?:; (.+))?\. -->")


@dataclass(frozen=True)
class ReportFiles:
    """A report's directory; rendered is False where it was already up to date.

    The directory holds README.md, table.csv, table.tex, figure.png, figure.svg, cells.csv and plan.json, further files
    of its kind of plan, and problems.txt where the record has errors.
    """

    directory: Path
    rendered: bool

    @property
    def page(self) -> Path:
        """The path of its page."""
        return self.directory / PAGE


def report_name(plan: Plan) -> str:
    """The name of a report's directory: the study's name, with a suffix unless the plan is the study unchanged."""
    return plan.study.name if plan.default else f"{plan.study.name}-{kind_of(plan).suffix(plan)}"


def document_of(plan: Plan, record: StudyRecord) -> Document:
    """Return the report of a plan as a document."""
    kind = kind_of(plan)
    return kind.document(kind.analyse(plan, record))


def terminal_text(plan: Plan, record: StudyRecord) -> str:
    """Question, tables, verdict, and what is wrong or missing as plain text."""
    return terminal.render(document_of(plan, record))


def write_report(plan: Plan, record: StudyRecord, directory: Path) -> ReportFiles:
    """Write directory/<study>/, unless it already shows this record; the record's problems are shown as errors."""
    home, texts = directory / report_name(plan), record_texts(plan, record)
    version = str(kind_of(plan).version)
    fingerprint = hashlib.sha256("\0".join([version, *texts.values()]).encode()).hexdigest()[:16]
    stamp = STAMP.search(saved_text(home / PAGE))
    former = stamp[2].split(", ") if stamp and stamp[2] else []
    if stamp and stamp[1] == fingerprint and _is_whole(home, texts, former):
        return ReportFiles(home, rendered=False)
    shown = replace(record, problems=texts[PROBLEMS].splitlines())
    contents = {**dict.fromkeys(former, ""), **texts, **_rendered(plan, shown, fingerprint)}
    for name, content in contents.items():  # the page last: its stamp stands for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def _is_whole(home: Path, texts: Mapping[str, str], rendered: list[str]) -> bool:
    """Whether the record's files are unchanged and all rendered files exist."""
    return all((home / name).is_file() for name in rendered) and all(
        saved_text(home / name) == text for name, text in texts.items()
    )


def _rendered(plan: Plan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:
    """Tables and figures, and the page last, which lists them."""
    kind = kind_of(plan)
    result = kind.analyse(plan, record)
    document = kind.document(result)
    contents: dict[str, str | bytes] = {"table.csv": csv.render(document), "table.tex": latex.render(document)}
    for block in (block for section in document.body for block in section.blocks):
        if isinstance(block, Table) and block.file:
            contents[f"{block.file}.csv"] = csv.table_csv(block)
    for name, drawing in kind.figures(result).items():
        contents |= {f"{name}.png": drawing.png, f"{name}.svg": drawing.svg}
    return {**contents, PAGE: markdown.render(document, fingerprint, list(contents))}


def record_texts(plan: Plan, record: StudyRecord) -> dict[str, str]:
    """The files that hold plan and record, by name; an empty text is no file."""
    problems = (" ".join(problem.split()) for problem in record.problems)
    first, *others = kind_of(plan).record_files(plan, record).items()
    plan_json = json.dumps(json.loads(plan.to_json()), indent=2, sort_keys=True) + "\n"
    texts = [first, (PLAN, plan_json), (PROBLEMS, "".join(f"{problem}\n" for problem in problems)), *others]
    return dict(texts)


def read_report(directory: Path) -> tuple[Plan, StudyRecord]:
    """Read plan and record of a report directory. Raises InputError where they are missing or not readable."""
    with _reading(directory):
        plan = read_saved_plan(directory)
        record = kind_of(plan).read_record(plan, directory)
        return plan, replace(record, problems=tuple(saved_text(directory / PROBLEMS).splitlines()))


def read_saved_plan(directory: Path) -> Plan:
    """Read the plan of a report directory. Raises InputError where it is missing or not readable."""
    with _reading(directory):
        return read_plan((directory / PLAN).read_text(encoding="utf-8"))


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{directory}: no report here, {Path(error.filename).name} is missing") from error
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{directory}: its files cannot be read as one record ({error!r})") from error


def write_index(directory: Path) -> Path:
    """Write directory/README.md, a table of its reports with question, verdict and setting; return its path."""
    text = "# Reports\n\n| study | question | verdict |\n| --- | --- | --- |\n"
    for home in sorted(path.parent for path in directory.glob(f"*/{PLAN}")):
        page = SUMMARY.search(saved_text(home / PAGE))
        question, setting, verdict = page.groups() if page else _summary(*read_report(home))
        text += f"| [{home.name}]({home.name}/{PAGE}) | {question} | {verdict} ({setting}) |\n"
    index = directory / PAGE
    if saved_text(index) != text:
        write_content(index, text)
    return index


def _summary(plan: Plan, record: StudyRecord) -> tuple[str, str, str]:
    document = document_of(plan, record)
    return document.title, document.setting, document.verdict
