"""A queue and a record that are no SQLite files of ours: looked at without a trace, refused without a password."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_fakes import FAST, Lines, small_plan
from study_proof import assert_exactly_once, give_databases, in_child, plan_and_work

from mobileone_core.errors import InputError
from mobileone_core.study.database import advisory_lock
from mobileone_core.study.queue.storage import create_queue
from mobileone_core.study.record.access import serve
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.progress import status_lines
from mobileone_core.study.run.runner import join
from mobileone_core.study.state import cell_states, study_names, study_states
from mobileone_core.study.workspace import Setup, redacted, sqlite_url
from mobileone_core.training.execution import Execution

PLAN = small_plan(levels=(1, 2), seeds=1, epochs=2)
TEXT = st.text("abcXYZ019@:/?&=%.-_ ", min_size=1)


@pytest.fixture
def as_server(workspace):
    """The queue named so that it is read as a server's is."""
    return replace(workspace, queue=workspace.queue.replace("sqlite:", "sqlite+pysqlite:"))


@pytest.fixture
def nobody():
    """A port that nobody listens at."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@given(TEXT)
def test_no_password_is_shown(password):
    secret = f"<{password}>"
    assert redacted(f"postgresql://me:{secret}@db.example:5432/queue") == "postgresql://me:***@db.example:5432/queue"
    assert redacted(f"http://me:{secret}@mlflow.example") == "http://me:***@mlflow.example"


@pytest.mark.parametrize(
    "url",
    ["sqlite:////home/me/runs/optuna.db", "postgresql://me@db.example/queue", "http://127.0.0.1:5000", "nonsense"],
)
def test_a_url_without_a_password_is_shown_as_it_is(url):
    assert redacted(url) == url


def test_a_password_among_the_parameters_is_not_shown():
    url = "postgresql://db.example/queue?user=me&password=secret&sslmode=require"
    assert redacted(url) == "postgresql://db.example/queue?user=me&password=***&sslmode=require"


def test_a_queue_may_lie_in_a_directory_that_does_not_exist_yet(tmp_path):
    path = tmp_path / "of this study" / "queue.db"
    create_queue(sqlite_url(path))
    assert [*path.parent.iterdir()] == [path]


def test_looking_creates_no_tables(as_server):
    as_server.runs.mkdir()
    path = as_server.runs / "optuna.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE others (name)")
    content = path.read_bytes()
    assert {item.state for item in cell_states(as_server, PLAN)} == {"missing"}
    assert study_names(as_server) == []
    assert status_lines(as_server) == [f"no study was planned in {as_server.queue}"]
    assert path.read_bytes() == content


def test_what_is_read_stays_current(databases, as_server):
    give_databases(databases, as_server)
    assert study_states(as_server, PLAN.queue) == []
    assert in_child(plan_and_work, PLAN, as_server) == 0
    assert [item.state for item in study_states(as_server, PLAN.queue)] == ["complete"] * 2
    assert study_names(as_server) == [PLAN.queue]


@pytest.mark.parametrize("url", ["postgresql://me:secret@127.0.0.1:{}/queue", "nonsense://me:secret@127.0.0.1:{}/x"])
def test_a_queue_that_cannot_be_reached_is_one_line_without_its_password(workspace, nobody, url):
    place = replace(workspace, queue=url.format(nobody))
    for look in (study_names, lambda place: cell_states(place, PLAN)):
        with pytest.raises(InputError, match=r"^queue \w+://me:\*\*\*@127.0.0.1") as refused:
            look(place)
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mssql"])
def test_a_record_that_cannot_be_reached_is_one_line_without_its_password(nobody, scheme):
    url = f"{scheme}://me:secret@127.0.0.1:{nobody}/record"
    with pytest.raises(InputError) as refused:
        Record(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_reading_a_record_that_is_not_there_creates_no_tables(workspace):
    workspace.runs.mkdir()
    path = workspace.runs / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE others (name)")
    content = path.read_bytes()
    with pytest.raises(InputError, match="no record here yet"):
        Record(f"sqlite+pysqlite:///{path}")
    assert path.read_bytes() == content


def test_a_planner_names_a_server_that_does_not_answer(nobody):
    with pytest.raises(Exception, match=r"psycopg|refused"), advisory_lock(f"postgresql://127.0.0.1:{nobody}/queue"):
        pass


def test_a_record_that_does_not_answer_is_told_soon_and_later_calls_keep_their_patience(nobody):
    before = dict(os.environ)
    with pytest.raises(InputError, match=rf"^record http://me:\*\*\*@127.0.0.1:{nobody}: no MLflow server answers$"):
        Record(f"http://me:secret@127.0.0.1:{nobody}")
    assert dict(os.environ) == before


@pytest.fixture
def mlflow_server(databases, tmp_path, nobody):
    """An MLflow server's address and the directory in which it keeps artifacts."""
    (tmp_path / "mlflow.db").write_bytes((databases / "mlflow.db").read_bytes())
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(nobody), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--artifacts-destination", str(kept)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{nobody}"
    try:
        wait_for(address, process)
        yield address, kept
    finally:
        process.terminate()
        process.wait()


def wait_for(address, process):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def names_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


@pytest.mark.slow
def test_machines_share_a_server_which_keeps_what_they_make(databases, as_server, mlflow_server, tmp_path, capsys):
    address, kept = mlflow_server
    one = replace(as_server, tracking=address)
    other = replace(one, runs=tmp_path / "other")
    give_databases(databases, one)
    assert in_child(plan_and_work, PLAN, one) == 0
    assert_exactly_once(PLAN, one)
    larger = small_plan(levels=(1, 2, 3), seeds=1, epochs=2)
    assert in_child(plan_and_work, larger, other) == 0
    assert join(PLAN, Setup(other, execution=Execution("cpu"), engine=FAST), Lines()).is_complete
    assert_exactly_once(larger, other)
    taught = small_plan(levels=(1,), seeds=1, epochs=2, teachers=("small",))
    for place, cells in (
        (one, {taught.teachers[0].key}),
        (other, None),
    ):  # one trains the teacher, the other fetches it
        assert in_child(plan_and_work, taught, place, None, FAST, cells) == 0
    assert_exactly_once(taught, other)
    assert names_below(kept) == ["cell.json"] * 5 + ["weights.safetensors"] * 5
    assert not one.artifacts.exists()
    assert not other.artifacts.exists()
    assert serve(one, 5000) == 0
    assert address in capsys.readouterr().out
