"""Workers are killed, stopped past the grace period and made to raise; every cell still has one finished run."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from study_fakes import script, small_plan
from study_proof import assert_exactly_once, give_databases, run_statuses

from mobileone_core.study.record import Record
from mobileone_core.study.state import cell_states

DRIVE = Path(__file__).with_name("drive.py")
TIMING = {"heartbeat": 1, "grace": 3, "claim": 1.0}
PATIENCE = 90.0  # seconds


def drive(tmp_path, **settings):
    """Start a study as a command in a process group of its own."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"timing": TIMING, **settings}))
    return subprocess.Popen(
        [sys.executable, str(DRIVE), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def until(condition, process):
    """Wait for something to be so, while the process lives; what condition gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def running(workspace, plan, epoch):
    """Cells at work that have finished an epoch or more, by process."""
    return {s.pid: s for s in cell_states(workspace, plan) if s.state == "running" and epoch <= s.epoch < s.epochs}


def stop_between_writes(workspace, pid):
    """SIGSTOP, but not while the process holds a database: nobody could write until it wakes."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        if all(is_free(workspace.runs / name) for name in ("optuna.db", "mlflow.db")):
            return
        os.kill(pid, signal.SIGCONT)


def is_free(path):
    """Whether the write lock can be had within a second."""
    with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def outcome_of(process):
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert error == ""
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("train", ["mobileone_core.training.run:train_cell", "study_fakes:train"])
def test_killed_stopped_and_raising_cells(tmp_path, workspace, databases, train):
    asked = {"levels": [1, 2, 3, 4], "seeds": 3, "epochs": 4}
    plan = small_plan(**asked)
    give_databases(databases, workspace)
    bad = plan.cells[9]
    data = script(tmp_path / "data", seconds=0.3, raising=[bad.key])
    if train.startswith("mobileone_core"):  # a broken checkpoint makes the real training raise
        workspace.checkpoints(bad.key).mkdir(parents=True)
        (workspace.checkpoints(bad.key) / "last.ckpt").write_bytes(b"broken")
        data = None
    process = drive(
        tmp_path, plan=asked, runs=str(workspace.runs), workers=3, train=train, data_root=data and str(data)
    )
    killed = next(iter(until(lambda: running(workspace, plan, 1), process).values()))
    os.kill(killed.pid, signal.SIGKILL)
    others = until(lambda: {p: s for p, s in running(workspace, plan, 1).items() if s.key != killed.key}, process)
    stopped = next(iter(others.values()))
    stop_between_writes(workspace, stopped.pid)
    until(lambda: state_of(workspace, plan, stopped.key).trial != stopped.trial, process)
    os.kill(stopped.pid, signal.SIGCONT)
    states = outcome_of(process)["states"]
    assert states == ["failed" if cell == bad else "complete" for cell in plan.cells]
    assert_exactly_once(plan, workspace, failed=[bad.key])
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert statuses[killed.run_id] == statuses[stopped.run_id] == "KILLED"
    assert sorted(statuses.values()) == ["FAILED", *["FINISHED"] * 11, "KILLED", "KILLED"]
    for dead in (killed, stopped):
        assert state_of(workspace, plan, dead.key).attempt == 2


def state_of(workspace, plan, key):
    return next(item for item in cell_states(workspace, plan) if item.key == key)


@pytest.mark.slow
def test_ctrl_c_leaves_everything_resumable(tmp_path, workspace, databases):
    asked = {"levels": [1, 2, 3], "seeds": 2, "epochs": 4}
    plan = small_plan(**asked)
    give_databases(databases, workspace)
    settings = {"plan": asked, "runs": str(workspace.runs), "workers": 2, "train": "study_fakes:train"}
    slow = script(tmp_path / "data", seconds=0.3)
    process = drive(tmp_path, data_root=str(slow), **settings)
    until(lambda: any(item.state == "complete" for item in cell_states(workspace, plan)), process)
    at_work = until(lambda: running(workspace, plan, 1), process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    result = outcome_of(process)
    assert result["interrupted"]
    assert "running" not in result["states"]
    done = {item.key: item.run_id for item in cell_states(workspace, plan) if item.state == "complete"}
    assert done
    assert not [pid for pid in at_work if psutil.pid_exists(pid)]
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert set(statuses.values()) == {"FINISHED", "KILLED"}
    assert outcome_of(drive(tmp_path, **settings))["states"] == ["complete"] * 6
    assert_exactly_once(plan, workspace)
    again = {item.key: item.run_id for item in cell_states(workspace, plan)}
    assert {key: again[key] for key in done} == done


@pytest.mark.slow
def test_workers_end_when_the_command_is_killed(tmp_path, workspace, databases):
    asked = {"levels": [1, 2], "seeds": 1, "epochs": 4}
    plan = small_plan(**asked)
    give_databases(databases, workspace)
    settings = {"plan": asked, "runs": str(workspace.runs), "workers": 2, "train": "study_fakes:train"}
    process = drive(tmp_path, data_root=str(script(tmp_path / "data", seconds=0.5)), **settings)
    at_work = until(lambda: running(workspace, plan, 1), process)
    process.kill()
    process.communicate()
    for pid in at_work:
        psutil.Process(pid).wait(timeout=PATIENCE) if psutil.pid_exists(pid) else None
    states = [item.state for item in cell_states(workspace, plan)]
    assert set(states) <= {"waiting", "complete"}
    assert outcome_of(drive(tmp_path, **settings))["states"] == ["complete"] * 2
    assert_exactly_once(plan, workspace)
