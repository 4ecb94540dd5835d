"""A record opened for reading, SQLite files directly, all others through MLflow's client; and MLflow's own UI."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import psutil

from mobileone_core.errors import InputError, require
from mobileone_core.study.database import database_error, database_exists, require_database, sqlite_path
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.plan import Plan
from mobileone_core.study.record.tables import DECLARATION, DECLARED_IN, PLAN, RecordTables, RunStatus, relocate
from mobileone_core.study.workspace import Workspace, is_server, redacted

if TYPE_CHECKING:
    from mobileone_core.study.record.record import Record

RecordReader: TypeAlias = "RecordTables | Record"
HOST = "127.0.0.1"
TRIED = 20  # ports
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def open_record(tracking: str) -> contextlib.AbstractContextManager[RecordReader]:
    """Open a record for reading. Raises InputError if it cannot be used."""
    path = sqlite_path(tracking)
    return connected(tracking) if path is None else RecordTables.open(path)


@contextlib.contextmanager
def connected(tracking: str) -> Iterator["Record"]:
    """The record through MLflow's client. Raises InputError if it cannot be used, or can no longer be."""
    from mobileone_core.study.record.record import RECORD_ERRORS, Record

    try:
        yield Record(tracking)
    except RECORD_ERRORS as error:
        raise database_error("record", tracking, error) from error


def open_existing(tracking: str) -> contextlib.AbstractContextManager["RecordReader | None"]:
    """Open a record as open_record does; None if it is an SQLite file that was not written yet."""
    path = sqlite_path(tracking)
    return open_record(tracking) if path is None or database_exists(path) else contextlib.nullcontext()


def recorded_plans(tracking: str, study: str = "") -> list[Plan]:
    """The plans recorded for a study, or for all studies; none before the record is written."""
    with open_existing(tracking) as record:
        if not record:
            return []
        studies = (study,) if study else record.experiments()
        tags = [sorted(record.experiment_tags(name).items()) for name in studies]
    return [read_plan(text) for name, text in itertools.chain(*tags) if name.startswith(PLAN)]


def declaring_file(tracking: str, study: str) -> tuple[str, str]:
    """Path of the file that last planned a study, and its declaration's digest; empty if none is recorded."""
    with open_existing(tracking) as record:
        tags = record.experiment_tags(study) if record else {}
    return tags.get(DECLARED_IN, ""), tags.get(DECLARATION, "")


def excluded_runs(tracking: str, study: str) -> set[str]:
    """Ids of a study's runs that reports leave out."""
    with open_existing(tracking) as record:
        return record.excluded(study) if record else set()


def run_statuses(tracking: str, study: str, queue: str) -> Sequence[RunStatus]:
    """Status of every run of a study's queue."""
    with open_record(tracking) as record:
        return record.statuses(study, queue)


def is_recorded(tracking: str, plan: Plan, runs: Collection[str]) -> bool:
    """Whether the plan is recorded, its FINISHED runs are exactly these run ids, and no run of its queue is RUNNING."""
    with open_existing(tracking) as record:
        if not record or record.experiment_tags(plan.study.name).get(PLAN + plan.id) != plan.to_json():
            return False
        statuses = record.statuses(plan.study.name, plan.queue)
    keys = {cell.key for cell in plan.queued}
    finished = {run.run_id for run in statuses if run.status == "FINISHED" and run.cell in keys}
    return finished == set(runs) and not any(run.status == "RUNNING" for run in statuses)


def serve(workspace: Workspace, port: int) -> int:
    """Serve the record until KeyboardInterrupt; print its address, and that of each study's runs grouped by factors.

    Return the server's exit status, then 0.

    The first free port, counted from port, is used. Raises InputError if there is no record or no free port.
    """
    from mobileone_core.study.record.views import save_views

    if is_server(workspace.tracking):
        address = redacted(workspace.tracking).rstrip("/")
        print("\n".join([f"{address} serves this record already", *save_views(workspace.tracking, address)]))
        return 0
    path = sqlite_path(workspace.tracking)
    if path is not None:
        require_database(path)
        relocate(workspace)
    chosen = free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(chosen), "--workers", "1"]
    command += ["--backend-store-uri", workspace.tracking, "--artifacts-destination", workspace.artifacts.as_uri()]
    address = f"http://{HOST}:{chosen}"
    print("\n".join([f"{address}  (Ctrl-C ends it)", *save_views(workspace.tracking, address)]), flush=True)
    this = psutil.Process()
    others, server = this.children(recursive=True), None
    try:
        server = subprocess.Popen(command, env={**os.environ, **QUIET}, start_new_session=True)  # Ctrl-C is ours alone
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:  # MLflow's own server process would outlive it
        with contextlib.suppress(KeyboardInterrupt):
            end_processes([item for item in this.children(recursive=True) if item not in others])
        if server:
            server.wait()


def end_processes(processes: Sequence[psutil.Process]) -> None:
    """Terminate processes, and kill those that have not ended after 10 s."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        _, processes = psutil.wait_procs(processes, 10)


def free_port(first: int) -> int:
    """The first port, counted from first, that no process listens on. Raises InputError if 20 are taken."""
    require(1 <= first <= 65535, "port", first, "from 1 to 65535")
    for port in range(first, min(first + TRIED, 65536)):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise InputError.of("port", first, f"a free port; {first} to {first + TRIED - 1} are taken")
