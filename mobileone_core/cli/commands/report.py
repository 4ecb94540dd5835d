"""From the record to reports: a study's own at its end, or all of them again."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.paths import home, reports_home, runs_home
from mobileone_core.errors import require
from mobileone_core.reporting.readme import quoted_reports, update_readme, update_values
from mobileone_core.reporting.report import (
    document_of,
    read_report,
    read_saved_plan,
    report_name,
    terminal_text,
    write_index,
    write_report,
)
from mobileone_core.study.database import database_exists, sqlite_path
from mobileone_core.study.plans import AnyPlan, is_whole, shows_other_runs
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Workspace

Source = tuple[AnyPlan, StudyRecord, Path]  # the last: the directory that holds the reports


def report_directory(plan: AnyPlan, workspace: Workspace, asked: Path | None, is_complete: bool) -> Path:
    """Only a default study, complete, in the workspace's own runs directory reports into reports/ unasked."""
    if asked is not None:
        return asked.expanduser().absolute()
    is_own = plan.default and is_complete and is_whole(plan) and workspace.runs == runs_home()
    return reports_home() if is_own else workspace.runs / "reports"


def report_plan(plan: AnyPlan, workspace: Workspace, asked: Path | None) -> tuple[str, bool]:
    """Write one study's report, where its record changed; its table as text, and whether the record is in order."""
    states = cell_states(workspace, plan)
    settled = is_settled(workspace, plan, states)
    directory = report_directory(plan, workspace, asked, all(item.state == "complete" for item in states))
    runs = {run for item in states for run in item.runs} if settled else set()
    record = _read(plan, workspace, directory / report_name(plan), runs)
    (page,) = _write([(plan, record, directory)])
    return f"{terminal_text(plan, record)}\n\nreport: {page}", not record.problems


def report(workspace: Workspace, studies: Collection[str], asked: Path | None) -> int:
    """Write the reports of the studies named, or of all: from the record, else from the cells kept in reports.

    Kept reports are those of the directory asked, else reports/ of this workspace, or of another runs directory.
    """
    own = reports_home() if workspace.runs == runs_home() else workspace.runs / "reports"
    reports = asked.expanduser().absolute() if asked else own
    recorded = _recorded_plans(workspace) if _has_record(workspace) else []
    saved = {path.parent: read_saved_plan(path.parent) for path in sorted(reports.glob("*/plan.json"))}
    known = sorted({plan.study.name for plan in (*recorded, *saved.values())})
    for name in studies:
        require(name in known, "study", name, f"studies with a record or a report: {', '.join(known) or 'none'}")
    if not known:
        print("no study is recorded and no report is kept: run a study first")
    chosen = [plan for plan in recorded if not studies or plan.study.name in studies]
    others = [home for home, plan in saved.items() if not studies or plan.study.name in studies]
    for page in _write(_sources(workspace, asked, chosen, others)):
        print(page)
    return COMPLETE


def _recorded_plans(workspace: Workspace) -> list[AnyPlan]:
    from mobileone_core.study.record.reading import read_plans, recorded_studies

    studies = recorded_studies(workspace.tracking)
    return [plan for study in studies for plan in read_plans(workspace.tracking, study)]


def _sources(
    workspace: Workspace, asked: Path | None, recorded: Sequence[AnyPlan], saved: Sequence[Path]
) -> Iterator[Source]:
    """Recorded plans with their records, then the reports of a directory that belong to none of those plans."""
    written = set()
    for plan in recorded:
        record = _recorded(plan, workspace)
        keys = {row.key for row in (*record.rows, *record.comparison)}
        is_complete = keys == {item.key for item in plan.queued}
        directory = report_directory(plan, workspace, asked, is_complete)
        written.add(directory / report_name(plan))
        yield plan, record, directory
    for directory in (item for item in saved if item not in written):
        plan, record = read_report(directory)
        if directory.parent / report_name(plan) not in written:
            yield plan, record, directory.parent


def _has_record(workspace: Workspace) -> bool:
    path = sqlite_path(workspace.tracking)
    return path is None or database_exists(path)


def _read(plan: AnyPlan, workspace: Workspace, kept: Path, runs: set[str]) -> StudyRecord:
    """A plan's record: that of its report where it is just of these runs, else the record itself."""
    if runs and not shows_other_runs(plan) and (kept / "plan.json").is_file():
        _, record = read_report(kept)
        found = {row.run_id for row in (*record.rows, *record.comparison)}
        has_curves = {point.metric for point in record.curves} == set(plan.study.curves)
        if found == runs and has_curves and not record.problems:
            return record
    return _recorded(plan, workspace)


def _recorded(plan: AnyPlan, workspace: Workspace) -> StudyRecord:
    from mobileone_core.study.record.reading import read_record

    return read_record(workspace.tracking, plan)


def _write(sources: Iterable[Source]) -> Iterator[Path]:
    """Write reports, and the index of each directory; this workspace's README quotes its own reports."""
    readme = home() / "README.md"
    directories = {}
    for plan, record, directory in sources:
        files = write_report(plan, record, directory)
        directories[directory] = None
        if directory == reports_home() and readme.is_file():
            text = readme.read_text(encoding="utf-8")
            if f"<!-- table:{plan.study.name} -->" in text:
                update_readme(readme, files.page)
            if report_name(plan) in quoted_reports(text):
                update_values(readme, report_name(plan), document_of(plan, record))
        yield files.page
    for directory in directories:
        write_index(directory)
