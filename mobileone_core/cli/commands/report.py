"""Reports from the record: one study's at the end of its run, or all of them by `mobileone report`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.workspace import Compare, Exclude, Report, reports_directory
from mobileone_core.cli.ownership import require_shipped, shipped_studies
from mobileone_core.errors import require
from mobileone_core.files import expanded, saved_text
from mobileone_core.reporting import report as reporting
from mobileone_core.reporting.merge import MergedReport, merged
from mobileone_core.reporting.readme import quoted_reports, update_readme, update_values
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.results import paired_table, read_setting
from mobileone_core.study.plan import Plan
from mobileone_core.study.record.access import connected, excluded_runs, recorded_plans
from mobileone_core.study.record.reading import read_record, resolve_run
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.state import CellState, is_settled
from mobileone_core.study.workspace import Workspace, runs_directory, workspace_directory

LEDGER_START = f"<!-- table:{reporting.LEDGER} -->"
Source = tuple[Plan, StudyRecord, Path]  # with the directory that holds the reports


def report_directory(plan: Plan, workspace: Workspace, requested: Path | None, is_complete: bool) -> Path:
    """The requested directory, else reports/ or the runs directory's reports.

    reports/ if it already shows this very plan, which is complete and of the default runs. Raises InputError for a
    default study to be written there whose name belongs to another one in studies/.
    """
    reports, directory = reports_directory(), reports_directory(requested)
    is_usual = requested is None and plan.default and is_complete and plan.is_final
    home = reports / plan.study.name
    is_shown = is_usual and workspace.runs == runs_directory() and (home / reporting.PLAN).is_file()
    if requested is None and not (is_shown and reporting.read_saved_plan(home).id == plan.id):
        return workspace.runs / "reports"
    if plan.default and directory == reports:
        require_shipped(plan.study)
    return directory


def report_plan(
    plan: Plan, workspace: Workspace, requested: Path | None, states: Sequence[CellState]
) -> tuple[str, bool, Path]:
    """Write one study's report if its record changed; return it as text, whether the record is sound, and the page."""
    settled = is_settled(workspace, plan, states)
    runs = {run for item in states for run in item.runs}
    excluded = runs & excluded_runs(workspace.tracking, plan.study.name)
    is_complete = not excluded and all(item.state == "complete" for item in states)
    directory = report_directory(plan, workspace, requested, is_complete)
    record = _read(plan, workspace, reporting.report_home(plan, directory), runs if settled else set(), excluded)
    ((page, analysed),) = _write([(plan, record, directory)])
    return terminal.render(analysed.document), not record.problems, page


def report(options: Report) -> int:
    """Write the reports of the studies named, or of all: from the record, else from the saved reports' cells.

    Saved reports are read from the requested directory, else from reports/ of this workspace or the runs directory.
    """
    workspace, studies = options.storage.workspace, options.studies
    default = None if workspace.runs == runs_directory() else workspace.runs / "reports"
    tracking, reports = workspace.tracking, reports_directory(options.reports or default)
    recorded = recorded_plans(tracking)
    if options.merge:
        for page, _ in _write(_merged(options, recorded)):
            print(page)
        return COMPLETE
    saved = {home: reporting.read_saved_plan(home) for home in reporting.report_homes(reports)}
    names = sorted({plan.study.name for plan in (*recorded, *saved.values())})
    for name in studies:
        require(name in names, "study", name, f"studies with a record or a report: {', '.join(names) or 'none'}")
    if not names:
        print("no study is recorded and no report is saved: run a study first")
    chosen = [plan for plan in recorded if not studies or plan.study.name in studies]
    chosen.sort(key=lambda plan: (plan.study.name, not plan.default, -len(plan.queued)))  # see report_home
    others = [home for home, plan in saved.items() if not studies or plan.study.name in studies]
    for page, _ in _write(_sources(workspace, options.reports, chosen, others)):
        print(page)
    return COMPLETE


def compare(options: Compare) -> int:
    """Print the paired differences of two settings."""
    workspace, reports = options.storage.workspace, reports_directory(options.reports)
    one, other = (read_setting(name, workspace, reports) for name in (options.one, options.other))
    table = paired_table(one, other, options.metric)
    print(f"A: {one.name}\nB: {other.name}\nmetric: {options.metric or one.plan.study.metric}\n")
    print("\n".join(terminal.table_lines(table)))
    return COMPLETE


def _merged(options: Report, recorded: Sequence[Plan]) -> Iterator[Source]:
    """The reports of options.merge, joined with one another and with the recorded plans of the same settings."""
    workspace = options.storage.workspace
    homes = dict[Path, None]()
    for root in (expanded(item).absolute() for item in options.merge):
        below = [root] if (root / reporting.PLAN).is_file() else reporting.report_homes(root)
        require(bool(below), "merge", str(root), "a report, or a directory of reports")
        homes |= dict.fromkeys(below)
    kept = [MergedReport(*reporting.read_report(home), str(home)) for home in homes]
    names = sorted({item.plan.study.name for item in kept})
    for name in options.studies:
        require(name in names, "study", name, f"studies with a report to merge: {', '.join(names)}")
    chosen = options.studies or names
    plans = [plan for plan in recorded if plan.study.name in chosen]
    rows = [MergedReport(plan, read_record(workspace.tracking, plan), "the record") for plan in plans]
    for plan, record in merged([*rows, *(item for item in kept if item.plan.study.name in chosen)]):
        yield plan, record, report_directory(plan, workspace, options.reports, _is_complete(plan, record))


def exclude(options: Exclude) -> int:
    """Let reports leave a run out, or show it again."""
    tracking = options.storage.workspace.tracking
    run_id = resolve_run(tracking, options.run)
    with connected(tracking) as record:
        record.exclude(run_id, undo=options.undo)
    state = "is shown in reports again" if options.undo else "is excluded from reports (--undo takes it back)"
    print(f"run {run_id} {state}; `mobileone report` writes them")
    return COMPLETE


def _is_complete(plan: Plan, record: StudyRecord) -> bool:
    """Whether every cell has a run that is shown."""
    return {item.key for item in plan.queued} <= {row.key for row in (*record.rows, *record.comparison)}


def _sources(
    workspace: Workspace, requested: Path | None, recorded: Sequence[Plan], saved: Sequence[Path]
) -> Iterator[Source]:
    """Recorded plans with their records, then the reports of a directory that belong to none of those plans.

    A line says of a shipped study that plans of its earlier declarations are left out.
    """
    written = set[Path]()
    present = [plan.study for plan in recorded if plan.default and plan.study in shipped_studies(plan.study.name)]
    names = {study.name for study in present}
    for plan in recorded:
        if plan.default and plan.study.name in names and plan.study not in present:
            print(f"{plan.study.name}: cells of an earlier declaration of the study are left out", file=sys.stderr)
            continue
        record = read_record(workspace.tracking, plan)
        directory = report_directory(plan, workspace, requested, _is_complete(plan, record))
        written.add(reporting.report_home(plan, directory))
        yield plan, record, directory
    for directory in (item for item in saved if item not in written):
        plan, record = reporting.read_report(directory)
        if reporting.report_home(plan, directory.parent) not in written:
            yield plan, record, directory.parent


def _read(plan: Plan, workspace: Workspace, saved: Path, runs: set[str], excluded: set[str]) -> StudyRecord:
    """A plan's record: from the saved report if it shows just these runs but the excluded, else from the database."""
    if runs and not plan.shows_standalone_runs and (saved / reporting.PLAN).is_file():
        _, record = reporting.read_report(saved)
        saved_runs = {row.run_id for row in (*record.rows, *record.comparison)}
        has_curves = {point.metric for point in record.curves} == set(plan.curves)
        is_current = set(record.excluded) == excluded and saved_runs | excluded == runs
        if is_current and has_curves and not record.problems:
            return record
    return read_record(workspace.tracking, plan)


def _write(sources: Iterable[Source]) -> Iterator[tuple[Path, reporting.AnalysedRecord]]:
    """Write reports, and the index of each directory; this workspace's README quotes its own reports."""
    readme = workspace_directory() / "README.md"
    directories: dict[Path, dict[Path, reporting.AnalysedRecord]] = {}
    for plan, read, directory in sources:
        record = reporting.with_examples(read, reporting.report_home(plan, directory))
        files = reporting.write_report(plan, record, directory)
        plan_read = reporting.read_saved_plan(files.directory)  # as every later reader sees it
        analysed = reporting.AnalysedRecord(plan_read, record)
        directories.setdefault(directory, {})[files.directory] = analysed
        if directory == reports_directory() and readme.is_file():
            text = readme.read_text(encoding="utf-8")
            if plan.default and f"<!-- table:{plan.study.name} -->" in text:
                update_readme(readme, files.page)
            if reporting.report_name(plan) in quoted_reports(text):
                update_values(readme, reporting.report_name(plan), analysed.document)
        yield files.page, analysed
    for directory, written in directories.items():
        index = reporting.write_index(directory, written)
        if directory == reports_directory() and all(LEDGER_START in saved_text(page) for page in (readme, index)):
            update_readme(readme, index)
