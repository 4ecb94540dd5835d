"""A record opened for reading: SQLite files directly, other databases and servers through MLflow's client."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from mobileone_core.study.database import database_exists, sqlite_path
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.plan import Plan
from mobileone_core.study.record.tables import PLAN, RecordTables, RunStatus

if TYPE_CHECKING:
    from mobileone_core.study.record.record import Record

    RecordReader = RecordTables | Record


@contextlib.contextmanager
def open_record(tracking: str) -> Iterator["RecordReader"]:
    """Open a record for reading. Raises InputError if it cannot be used."""
    path = sqlite_path(tracking)
    if path is not None:
        with RecordTables.open(path) as tables:
            yield tables
        return
    from mobileone_core.study.record.record import Record

    yield Record(tracking)


def record_exists(tracking: str) -> bool:
    """False if the record is an SQLite file that was not written yet."""
    path = sqlite_path(tracking)
    return path is None or database_exists(path)


def recorded_studies(tracking: str) -> list[str]:
    """The studies that have a plan in the record."""
    with open_record(tracking) as record:
        experiments = record.experiments()
    return [study for study, tags in experiments.items() if any(name.startswith(PLAN) for name in tags)]


def recorded_plans(tracking: str, study: str) -> list[Plan]:
    """The plans recorded for a study."""
    with open_record(tracking) as record:
        tags = record.experiment_tags(study)
    return [read_plan(text) for name, text in sorted(tags.items()) if name.startswith(PLAN)]


def run_statuses(tracking: str, study: str, queue: str) -> Sequence[RunStatus]:
    """Status of every run of a study's queue."""
    with open_record(tracking) as record:
        return record.statuses(study, queue)


def is_recorded(tracking: str, plan: Plan, runs: Collection[str]) -> bool:
    """Whether the plan is recorded, its FINISHED runs are exactly these run ids, and no run of its queue is RUNNING."""
    with open_record(tracking) as record:
        if record.experiment_tags(plan.study.name).get(PLAN + plan.id) != plan.to_json():
            return False
        statuses = record.statuses(plan.study.name, plan.queue)
    keys = {cell.key for cell in plan.queued}
    finished = {run.run_id for run in statuses if run.status == "FINISHED" and run.cell in keys}
    return finished == set(runs) and not any(run.status == "RUNNING" for run in statuses)
