"""Reading leaves no trace, needs nothing heavy, and says in one line what cannot be read."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from study_fakes import small_plan
from study_proof import finished_workspace, in_child

from mobileone_core.errors import InputError
from mobileone_core.study.database import open_readonly, require_database
from mobileone_core.study.record.access import recorded_plans, run_statuses
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.progress import plan_lines, status_lines
from mobileone_core.study.state import CellState, cell_states, is_settled, study_names, study_states, waiting_for_failed
from mobileone_core.study.workspace import Workspace

PLAN = small_plan(levels=(1, 2), seeds=1, epochs=1)


@pytest.fixture(scope="module")
def finished(databases, tmp_path_factory):
    return finished_workspace(PLAN, databases, tmp_path_factory.mktemp("finished"))


def change(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_nothing_there_yet_is_all_missing_and_stays_so(tmp_path):
    workspace = Workspace.at(tmp_path / "not" / "there")
    states = cell_states(workspace, PLAN)
    assert [item.state for item in states] == ["missing"] * 2
    assert not is_settled(workspace, PLAN, states)
    assert study_states(workspace, PLAN.queue) == study_names(workspace) == []
    assert status_lines(workspace) == [f"no study was planned in {workspace.queue}"]
    assert list(tmp_path.iterdir()) == []


def test_reading_changes_no_file(finished):
    def traces():
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.runs.rglob("*") if path.is_file()
        }

    before = traces()
    states = cell_states(finished, PLAN)
    assert is_settled(finished, PLAN, states)
    planned = plan_lines(PLAN, states)
    assert sorted(status_lines(finished)[1:]) == sorted(planned[2:])  # queued in another order than planned
    assert traces() == before


def test_status_shows_every_cell(finished):
    states = cell_states(finished, PLAN)
    lines = status_lines(finished, [PLAN.queue])
    assert lines[0] == f"{PLAN.queue}: 2 complete"
    for state in states:
        (line,) = [line for line in lines if state.key in line]
        assert all(word in line for word in (state.label, "complete", "1/1", f"{state.value:.4f}", state.run_id))
    with pytest.raises(InputError, match=r"study: 'other' .* planned are branch_count-tiny-digits-"):
        status_lines(finished, ["other"])


def test_the_readers_import_nothing_heavy(finished):
    code = (
        "import sys; from pathlib import Path; from mobileone_core.study.workspace import Workspace; "
        "from mobileone_core.study import state; from mobileone_core.study.record import access, reading; "
        "from mobileone_core.study.run import progress, runner, worker_pool; "
        f"progress.status_lines(Workspace.at(Path({str(finished.runs)!r}))); "
        "print(sorted({'torch', 'optuna', 'mlflow', 'sqlalchemy', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET status = 'RUNNING'",
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name LIKE 'k=1%'",
        "DELETE FROM experiment_tags WHERE key LIKE 'plan.%'",
    ],
)
def test_complete_cells_without_a_whole_record_are_not_settled(copy, statement):
    change(copy.runs / "mlflow.db", statement)
    assert not is_settled(copy, PLAN, cell_states(copy, PLAN))


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_a_file_that_is_no_database_is_named(copy, name):
    (copy.runs / name).write_text("these are my notes, not a database\n" * 100)
    with pytest.raises(InputError, match=f"{name}: not a database"):
        is_settled(copy, PLAN, cell_states(copy, PLAN))


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_another_programs_database_is_named(copy, name):
    (copy.runs / name).unlink()
    change(copy.runs / name, "CREATE TABLE recipes (name)")
    with pytest.raises(InputError, match=rf"{name}: not a database of \w+"):
        is_settled(copy, PLAN, cell_states(copy, PLAN))


@pytest.mark.parametrize(
    ("name", "statement", "words"),
    [
        ("optuna.db", "UPDATE alembic_version SET version_num = 'v9.9.9.a'", "optuna schema 'v9.9.9.a' is newer"),
        ("mlflow.db", "UPDATE alembic_version SET version_num = 'ffffffffffff'", "mlflow schema .* is newer"),
        ("mlflow.db", "UPDATE experiment_tags SET value = '99' WHERE key = 'schema'", "written by a newer version"),
    ],
)
def test_a_newer_schema_is_refused(copy, name, statement, words):
    change(copy.runs / name, statement)
    with pytest.raises(InputError, match=words):
        is_settled(copy, PLAN, cell_states(copy, PLAN))


def test_a_transaction_that_a_killed_writer_left_is_read_past_and_not_undone_in_place(copy):
    path = copy.runs / "optuna.db"
    before = cell_states(copy, PLAN)

    def die_writing():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE trials SET state = 'WAITING'")
        for number in range(200):
            connection.execute("INSERT INTO studies (study_name) VALUES (?)", (f"{number}-" + "x" * 500,))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die_writing) == -9
    journal = path.with_name("optuna.db-journal")
    assert journal.exists()
    content = path.read_bytes(), journal.read_bytes()
    assert cell_states(copy, PLAN) == before
    assert (path.read_bytes(), journal.read_bytes()) == content


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_a_look_leaves_this_process_the_locks_that_it_holds(copy, name):
    def other_writer():
        with contextlib.closing(sqlite3.connect(copy.runs / name, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise SystemExit(error.sqlite_errorcode) from None

    with contextlib.closing(sqlite3.connect(copy.runs / name, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert cell_states(copy, PLAN) == cell_states(copy, PLAN)
        assert is_settled(copy, PLAN, cell_states(copy, PLAN))
        Record(copy.tracking)
        require_database(copy.runs / name)
        assert in_child(other_writer) == sqlite3.SQLITE_BUSY
    assert in_child(other_writer) == 0


def test_what_waits_for_a_failed_cell():
    def state(key, name, *needs):
        return CellState(key, 0, {}, name, needs=needs)

    states = [
        state("comparison", "waiting", "a", "c", "free"),
        state("a", "waiting", "teacher"),
        state("b", "complete", "teacher"),
        state("c", "running", "teacher"),
        state("free", "waiting", "other"),
        state("last", "waiting", "comparison"),
        state("teacher", "failed"),
        state("other", "waiting"),
    ]
    assert sorted(item.key for item in waiting_for_failed(states)) == ["a", "comparison", "last"]
    assert waiting_for_failed(states[:-2]) == []


def test_a_directory_in_place_of_a_database_is_named(tmp_path):
    with pytest.raises(InputError, match=tmp_path.name), open_readonly(tmp_path):
        pass


@pytest.mark.parametrize("text", ["{", "[1", "9" * 5000, "\x1b[1m"])
def test_a_record_with_strange_tags_is_refused_in_one_line(copy, text):
    def refused(read, table, key, *arguments):
        with sqlite3.connect(copy.runs / "mlflow.db") as connection:
            connection.execute(f"UPDATE {table} SET value = ? WHERE key {key}", (text,))
        connection.close()
        with pytest.raises(InputError) as caught:
            read(copy.tracking, *arguments)
        assert "\n" not in str(caught.value)

    refused(read_record, "tags", "= 'factors'", PLAN)
    refused(recorded_plans, "experiment_tags", "LIKE 'plan.%'", PLAN.study.name)
    if text != "9" * 5000:
        refused(run_statuses, "tags", "= 'trial'", PLAN.study.name, PLAN.queue)
