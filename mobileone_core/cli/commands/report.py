"""From the record to reports: a study's own at its end, or all of them again."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.paths import home, reports_home, runs_home
from mobileone_core.errors import require
from mobileone_core.reporting.cells import read_cells
from mobileone_core.reporting.readme import update_readme
from mobileone_core.reporting.render.terminal import terminal_table
from mobileone_core.reporting.report import report_name, write_index, write_report
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
    return f"{terminal_table(plan, record)}\n\nreport: {page}", not record.problems


def report(workspace: Workspace, studies: Collection[str], asked: Path | None) -> int:
    """Write the reports of the studies named, or of all: from the record, else from the cells kept in reports.

    Kept reports are those of the directory asked, else reports/ of this workspace, or of another runs directory.
    """
    own = reports_home() if workspace.runs == runs_home() else workspace.runs / "reports"
    reports = asked.expanduser().absolute() if asked else own
    found = list(_recorded(workspace, asked)) if _has_record(workspace) else []
    told = {(source[2], report_name(source[0])) for source in found}
    found += [source for source in _kept(reports) if (source[2], report_name(source[0])) not in told]
    known = sorted({source[0].study.name for source in found})
    for name in studies:
        require(name in known, "study", name, f"studies with a record or a report: {', '.join(known) or 'none'}")
    if not found:
        print("no study is recorded and no report is kept: run a study first")
    for page in _write([source for source in found if not studies or source[0].study.name in studies]):
        print(page)
    return COMPLETE


def _recorded(workspace: Workspace, asked: Path | None) -> Iterator[Source]:
    from mobileone_core.study.record.reading import read_plans, read_record, recorded_studies

    for study in recorded_studies(workspace.tracking):
        for plan in read_plans(workspace.tracking, study):
            record = read_record(workspace.tracking, plan)
            keys = {row.key for row in (*record.rows, *record.comparison)}
            is_complete = keys == {item.key for item in plan.queued}
            yield plan, record, report_directory(plan, workspace, asked, is_complete)


def _kept(reports: Path) -> Iterator[Source]:
    for path in sorted(reports.glob("*/plan.json")):
        yield *read_cells(path.parent), reports


def _has_record(workspace: Workspace) -> bool:
    path = sqlite_path(workspace.tracking)
    return path is None or database_exists(path)


def _read(plan: AnyPlan, workspace: Workspace, kept: Path, runs: set[str]) -> StudyRecord:
    """A plan's record: that of its report where it is just of these runs, else the record itself."""
    if runs and not shows_other_runs(plan) and (kept / "plan.json").is_file():
        _, record = read_cells(kept)
        found = {row.run_id for row in (*record.rows, *record.comparison)}
        has_curves = {point.metric for point in record.curves} == set(plan.study.curves)
        if found == runs and has_curves and not record.problems:
            return record
    from mobileone_core.study.record.reading import read_record

    return read_record(workspace.tracking, plan)


def _write(sources: Sequence[Source]) -> Iterator[Path]:
    """Write reports, and the index of each directory; this workspace's README shows the tables of its own reports."""
    readme = home() / "README.md"
    written: dict[Path, dict[str, tuple[AnyPlan, StudyRecord]]] = {}
    for plan, record, directory in sources:
        files = write_report(plan, record, directory)
        written.setdefault(directory, {})[report_name(plan)] = plan, record
        marker = f"<!-- table:{plan.study.name} -->"
        if directory == reports_home() and readme.is_file() and marker in readme.read_text(encoding="utf-8"):
            update_readme(readme, files.page)
        yield files.page
    for directory, records in written.items():
        write_index(directory, records)
