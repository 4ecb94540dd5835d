"""Reports from plan and record: what each kind of report gives, report directories, and the index over them.

The same record gives the same bytes, and an unchanged one renders nothing.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mobileone_core.errors import InputError, refusing
from mobileone_core.files import require_writable, saved_text, write_content
from mobileone_core.reporting.document import Document
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.reporting.ledger.claims import read_claims
from mobileone_core.reporting.ledger.evidence import SavedResult
from mobileone_core.reporting.ledger.ledger import ledger_sections, repetitions, verdicts
from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.render import csv, latex, markdown
from mobileone_core.reporting.search.kind import SearchKind
from mobileone_core.reporting.site import SITE, index_page, study_page
from mobileone_core.reporting.trained.kind import TrainedKind
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan

PAGE, PLAN, PROBLEMS, LEDGER, EXCLUDED = "README.md", "plan.json", "problems.txt", "ledger", "excluded.txt"
INDEX_HEAD = "# Reports"
INDEX = re.compile(rf"\A{INDEX_HEAD}$", re.MULTILINE)
STAMP = re.compile(r"<!-- Written by `mobileone report`; record (\w+)(?:; (.+))?\. -->")


class ReportKind(Protocol):
    """How plans of one kind are reported. plan is of that kind; result is what `analyse` returned."""

    version: int  # raised when the same record is to give another report

    def suffix(self, plan: Any) -> str:
        """Return what follows the study's name in report_name, for a plan that is not the study unchanged."""

    def record_files(self, plan: Any, record: StudyRecord) -> dict[str, str]:
        """Return the CSV files that hold the record without its problems, cells.csv first; an empty text is no file."""

    def read_record(self, plan: Any, directory: Path) -> StudyRecord:
        """Read the record back from these files. Raises FileNotFoundError, KeyError, ValueError."""

    def analyse(self, plan: Any, record: StudyRecord) -> Any:
        """Put plan and record together: what is measured, missing, wrong, and what it says."""

    def document(self, result: Any) -> Document:
        """Return the report, of which the page, the terminal text and the files of tables are rendered."""

    def figures(self, result: Any) -> Mapping[str, Drawing]:
        """Draw every figure of the document, by the stem of its files."""


KINDS: Mapping[str, ReportKind] = {
    GridPlan.kind: TrainedKind(),
    MeasuredPlan.kind: MeasuredKind(),
    SearchPlan.kind: SearchKind(),
}


@dataclass(frozen=True)
class ReportFiles:
    """A report's directory, whose files the room's README lists; rendered is False where it was already up to date."""

    directory: Path
    rendered: bool

    @property
    def page(self) -> Path:
        """The path of its page."""
        return self.directory / PAGE


def report_name(plan: Plan) -> str:
    """The name of a report's directory: the study's name, with a suffix unless the plan is the study unchanged."""
    return plan.study.name if plan.default else f"{plan.study.name}-{KINDS[plan.kind].suffix(plan)}"


def report_home(plan: Plan, directory: Path) -> Path:
    """The report's directory below directory: report_name, with the plan's id if another plan's cells would be lost.

    Reports on another data set carry its name alone, so that seeds and levels can be added to them.
    """
    home = directory / report_name(plan)
    if plan.default or not (home / PLAN).is_file():
        return home
    lost = {item.key for item in read_saved_plan(home).queued} - {item.key for item in plan.queued}
    return home.with_name(f"{home.name}-{plan.id}") if lost and plan.id not in home.name else home


def report_homes(directory: Path) -> list[Path]:
    """The directories of the reports below a directory, sorted."""
    return sorted(path.parent for path in directory.glob(f"*/{PLAN}"))


@dataclass(frozen=True, eq=False)
class AnalysedRecord:
    """A plan with its record, analysed once."""

    plan: Plan
    record: StudyRecord

    @cached_property
    def result(self) -> Any:
        """The value of the kind's `analyse`."""
        return KINDS[self.plan.kind].analyse(self.plan, self.record)

    @cached_property
    def document(self) -> Document:
        """The report."""
        document, ids = KINDS[self.plan.kind].document(self.result), self.record.excluded
        if not ids:
            return document
        number = "1 finished run is" if len(ids) == 1 else f"{len(ids)} finished runs are"
        text = f"{number} excluded from this report (`mobileone exclude RUN --undo` takes it back): {', '.join(ids)}"
        return replace(document, missing=(*document.missing, text))


def document_of(plan: Plan, record: StudyRecord) -> Document:
    """Return the report of a plan as a document."""
    return AnalysedRecord(plan, record).document


def write_report(plan: Plan, record: StudyRecord, directory: Path) -> ReportFiles:
    """Write report_home, unless it already shows this record; the record's problems are shown as errors."""
    home, texts = report_home(plan, directory), record_texts(plan, record)
    require_report_directory(directory)
    if not (home / PLAN).exists():
        _require_ours(home / PAGE, STAMP)
    digests = [hashlib.sha256(item).hexdigest() for _, item in sorted(record.examples.items())]
    versioned = "\0".join([str(KINDS[plan.kind].version), *texts.values(), *digests])
    fingerprint = hashlib.sha256(versioned.encode()).hexdigest()[:16]
    stamp = STAMP.search(saved_text(home / PAGE))
    former = stamp[2].split(", ") if stamp and stamp[2] else []
    is_whole = all((home / name).is_file() for name in former)
    is_same = all(saved_text(home / name) == text for name, text in texts.items())
    if stamp and stamp[1] == fingerprint and is_whole and is_same:
        return ReportFiles(home, rendered=False)
    shown = replace(record, problems=texts[PROBLEMS].splitlines())
    contents = {**dict.fromkeys((EXCLUDED, *former), ""), **texts, **_rendered(plan, shown, fingerprint)}
    for name, content in contents.items():  # the page last: its stamp stands for the others
        if content:
            write_content(home / name, content)
        else:
            (home / name).unlink(missing_ok=True)
    return ReportFiles(home, rendered=True)


def with_examples(record: StudyRecord, home: Path) -> StudyRecord:
    """The record with the examples that a report directory shows of its cells, where the record has none."""
    saved = {path.stem.partition("-")[2]: path.read_bytes() for path in home.glob("examples-*.png")}
    own = {row.key: saved[row.key] for row in record.rows if row.key in saved}
    return replace(record, examples={**own, **record.examples})


def require_report_directory(directory: Path) -> None:
    """Raise InputError if reports cannot be written to a directory, or its README.md is no index of reports."""
    require_writable("reports", directory)
    _require_ours(directory / PAGE, INDEX)


def _require_ours(page: Path, mark: re.Pattern[str]) -> None:
    """Raise InputError if a page was written by hand: it has some text without the mark of our pages."""
    if (text := saved_text(page)) and not mark.search(text):
        raise InputError(f"reports: {page} is no report and stays as it is; name another directory")


def _rendered(plan: Plan, record: StudyRecord, fingerprint: str) -> dict[str, str | bytes]:
    """Tables and figures, and the page last, which lists them."""
    analysed = AnalysedRecord(plan, record)
    document = analysed.document
    contents: dict[str, str | bytes] = {"table.csv": csv.table_csv(document.table), "table.tex": latex.render(document)}
    contents |= {f"{table.file}.csv": csv.table_csv(table) for table in document.tables if table.file}
    contents |= {f"examples-{key}.png": item for key, item in sorted(record.examples.items())}
    for name, drawing in KINDS[plan.kind].figures(analysed.result).items():
        contents |= {f"{name}.png": drawing.png, f"{name}.svg": drawing.svg}
    return {**contents, PAGE: markdown.render(document, fingerprint, list(contents))}


def record_texts(plan: Plan, record: StudyRecord) -> dict[str, str]:
    """The files that hold plan and record, by name; an empty text is no file."""
    problems = "".join(f"{' '.join(problem.split())}\n" for problem in record.problems)
    first, *others = KINDS[plan.kind].record_files(plan, record).items()
    plan_json = json.dumps(json.loads(plan.to_json()), indent=2, sort_keys=True) + "\n"
    excluded = [(EXCLUDED, "".join(f"{run_id}\n" for run_id in record.excluded))] if record.excluded else []
    return dict([first, (PLAN, plan_json), (PROBLEMS, problems), *others, *excluded])


def read_report(directory: Path) -> tuple[Plan, StudyRecord]:
    """Read plan and record of a report directory. Raises InputError where they are missing or not readable."""
    with _reading(directory):
        plan = read_saved_plan(directory)
        record = KINDS[plan.kind].read_record(plan, directory)
        problems, excluded = (tuple(saved_text(directory / name).splitlines()) for name in (PROBLEMS, EXCLUDED))
        return plan, with_examples(replace(record, problems=problems, excluded=excluded), directory)


def read_saved_plan(directory: Path) -> Plan:
    """Read the plan of a report directory. Raises InputError where it is missing or not readable."""
    with _reading(directory):
        return read_plan((directory / PLAN).read_text(encoding="utf-8"))


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    with refusing(f"{directory}: its files cannot be read as one record"):
        try:
            yield
        except FileNotFoundError as error:
            raise InputError(f"{directory}: no report here, {Path(error.filename).name} is missing") from error


def write_index(directory: Path, written: Mapping[Path, AnalysedRecord] | None = None) -> Path:
    """Write the ledger of the paper's claims and a table of the reports, and the site; return the path of README.md.

    written: what reports in the directory were written of; all others are read.
    """
    homes, studies = report_homes(directory), {claim.study for claim in read_claims()}
    reports = _readable(homes, written or {})
    results = [SavedResult(home.name, item.result) for home, item in reports.items() if item.plan.study.name in studies]
    rows = verdicts(results)
    parts = [INDEX_HEAD]
    if any(row.evidence for row in rows):
        first, further = ledger_sections(rows, repetitions(results, PAGE), PAGE)
        lead = [f"## {first.heading}", f"<!-- table:{LEDGER} -->", *map(markdown.block_text, first.blocks)]
        parts += [*lead, f"<!-- end table:{LEDGER} -->", f"## {further.heading}"]
        parts += [*map(markdown.block_text, further.blocks), "## Studies"]
    pages = {home / SITE: study_page(home, item.plan, item.document, rows) for home, item in reports.items()}
    documents = {home.name: item.document for home, item in reports.items()}
    pages[directory / SITE] = index_page(rows, repetitions(results, SITE), documents)
    pages[directory / PAGE] = "\n\n".join([*parts, _studies_table(homes, documents)])
    for path, text in pages.items():
        if saved_text(path) != text:
            write_content(path, text)
    return directory / PAGE


def _readable(homes: Iterable[Path], written: Mapping[Path, AnalysedRecord]) -> dict[Path, AnalysedRecord]:
    """Reports by directory; one that cannot be read is no evidence and has no page in the site."""
    reports = {}
    for home in homes:
        with contextlib.suppress(InputError):
            item = written.get(home) or AnalysedRecord(*read_report(home))
            _ = item.result
            reports[home] = item
    return reports


def _studies_table(homes: Iterable[Path], documents: Mapping[str, Document]) -> str:
    """Every report with question, verdict and setting, or that it cannot be read."""
    text = "| study | question | verdict |\n| --- | --- | --- |\n"
    for home in homes:
        shown = documents.get(home.name)
        cells = f"{shown.title} | {shown.verdict} ({shown.setting})" if shown else "| its files cannot be read"
        text += f"| [{home.name}]({home.name}/{PAGE}) | {cells} |\n"
    return text
