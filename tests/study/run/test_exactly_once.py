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
from study_fakes import kept_times, script, small_plan
from study_proof import assert_exactly_once, give_databases, run_plan, run_statuses

from mobileone_core.study.record.record import Record
from mobileone_core.study.state import cell_states

DRIVE = Path(__file__).parents[1] / "drive.py"
TIMING = {"heartbeat": 1, "grace": 3, "claim": 1.0}
PATIENCE = 90.0  # seconds


@pytest.fixture
def drive(tmp_path):
    """Starts a study as a command in a process group of its own, and leaves none behind."""
    started = []

    def start(**settings):
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({"timing": TIMING, **settings}))
        command = [sys.executable, str(DRIVE), str(path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition, process):
    """Wait for something to be so, while the process lives; what condition gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def at_work(workspace, plan):
    """Cells well before their end that have finished an epoch, by process."""
    states = [item for item in cell_states(workspace, plan) if item.state == "running" and item.owner]
    return {s.owner.pid: s for s in states if 1 <= s.epoch <= s.epochs // 3}


def victim(workspace, plan, *spared):
    """The state of a cell that is at work, but of none of these."""
    keys = {item.key for item in spared}
    return next((item for item in at_work(workspace, plan).values() if item.key not in keys), None)


def stop_between_writes(workspace, pid):
    """SIGSTOP, but not while the process reads or writes a database: nobody could write until it wakes."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        if all(is_free(workspace.runs / name) for name in ("optuna.db", "mlflow.db")):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)  # else it is stopped again where it was


def is_free(path):
    """Whether a database can be had for oneself within a second."""
    with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
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
def test_killed_stopped_and_raising_cells(drive, tmp_path, workspace, databases, train):
    plan_options = {"levels": [1, 2, 3], "seeds": 2, "epochs": 6}
    plan = small_plan(**plan_options)
    give_databases(databases, workspace)
    bad = plan.cells[3]  # begun last
    data = script(tmp_path / "data", seconds=0.2, raising=[bad.key])
    if train.startswith("mobileone_core"):  # a broken checkpoint makes the real training raise
        workspace.checkpoints(plan.queue, bad.key).mkdir(parents=True)
        (workspace.checkpoints(plan.queue, bad.key) / "last.ckpt").write_bytes(b"broken")
        data = None
    process = drive(plan=plan_options, runs=str(workspace.runs), workers=3, train=train, data_root=data and str(data))
    killed = until(lambda: victim(workspace, plan, bad), process)
    os.kill(killed.owner.pid, signal.SIGKILL)
    stopped = until(lambda: victim(workspace, plan, bad, killed), process)
    stop_between_writes(workspace, stopped.owner.pid)
    until(lambda: state_of(workspace, plan, stopped.key).trial != stopped.trial, process)
    os.kill(stopped.owner.pid, signal.SIGCONT)
    states = outcome_of(process)["states"]
    assert states == ["failed" if cell == bad else "complete" for cell in plan.cells]
    assert_exactly_once(plan, workspace, failed=[bad.key])
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert statuses[killed.run_id] == statuses[stopped.run_id] == "KILLED"
    assert sorted(statuses.values()) == ["FAILED", *["FINISHED"] * 5, "KILLED", "KILLED"]
    for dead in (killed, stopped):
        assert state_of(workspace, plan, dead.key).attempt == 2


def state_of(workspace, plan, key):
    return next(item for item in cell_states(workspace, plan) if item.key == key)


@pytest.mark.slow
def test_killed_teachers_and_comparisons(drive, tmp_path, workspace, databases):
    plan_options = {"levels": [1, 2], "seeds": 1, "epochs": 6, "teachers": ["small"], "compares": "forms"}
    plan = small_plan(**plan_options)
    give_databases(databases, workspace)
    data = script(tmp_path / "data", seconds=0.2)
    settings = {"runs": str(workspace.runs), "train": "study_fakes:train", "data_root": str(data)}
    settings["measure"] = "study_fakes:measure_alone"
    process = drive(plan=plan_options, workers=2, **settings)
    for key in (plan.teachers[0].key, plan.comparison.key):
        busy = until(lambda key=key: at_work_on(workspace, plan, key), process)
        os.kill(busy.owner.pid, signal.SIGKILL)
    assert outcome_of(process)["states"] == ["complete"] * 4
    assert_exactly_once(plan, workspace)
    attempts = {item.key: item.attempt for item in cell_states(workspace, plan)}
    assert attempts == {item.key: 1 + (item.role != "cell") for item in plan.queued}
    condition = f"attributes.status = 'FINISHED' AND tags.cell = '{plan.comparison.key}'"
    measured = next(Record(workspace.tracking).runs(plan.study.name, condition)).data.tags
    assert measured["beside"] == "[]"  # workers with nothing to do have ended
    assert all(item["end"] <= float(measured["begin"]) for item in kept_times(data))


def at_work_on(workspace, plan, key):
    """The state of a cell that is at work, once it has finished an epoch or a round."""
    state = state_of(workspace, plan, key)
    return state if state.state == "running" and state.epoch else None


@pytest.mark.slow
def test_ctrl_c_leaves_everything_resumable(drive, tmp_path, workspace, databases):
    plan_options = {"levels": [1, 2], "seeds": 2, "epochs": 6}
    plan = small_plan(**plan_options)
    give_databases(databases, workspace)
    settings = {"plan": plan_options, "runs": str(workspace.runs), "workers": 2, "train": "study_fakes:train"}
    slow = script(tmp_path / "data", seconds=0.3)
    process = drive(data_root=str(slow), **settings)
    until(lambda: any(item.state == "complete" for item in cell_states(workspace, plan)), process)
    busy = until(lambda: at_work(workspace, plan), process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    result = outcome_of(process)
    assert result["interrupted"], result
    assert "running" not in result["states"]
    done = {item.key: item.run_id for item in cell_states(workspace, plan) if item.state == "complete"}
    assert done
    assert not [pid for pid in busy if psutil.pid_exists(pid)]
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert set(statuses.values()) == {"FINISHED", "KILLED"}
    assert run_plan(plan, workspace)[0].is_complete
    assert_exactly_once(plan, workspace)
    again = {item.key: item.run_id for item in cell_states(workspace, plan)}
    assert {key: again[key] for key in done} == done


@pytest.mark.slow
def test_workers_end_when_the_command_is_killed(drive, tmp_path, workspace, databases):
    plan_options = {"levels": [1, 2], "seeds": 1, "epochs": 6}
    plan = small_plan(**plan_options)
    give_databases(databases, workspace)
    settings = {"plan": plan_options, "runs": str(workspace.runs), "workers": 2, "train": "study_fakes:train"}
    process = drive(data_root=str(script(tmp_path / "data", seconds=0.3)), **settings)
    busy = until(lambda: at_work(workspace, plan), process)
    process.kill()
    process.communicate()
    for pid in busy:
        psutil.Process(pid).wait(timeout=PATIENCE) if psutil.pid_exists(pid) else None
    states = [item.state for item in cell_states(workspace, plan)]
    assert set(states) <= {"waiting", "complete"}
    assert run_plan(plan, workspace)[0].is_complete
    assert_exactly_once(plan, workspace)
