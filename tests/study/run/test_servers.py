"""Real servers: a tracking server that goes away in the middle of a cell, and queue and record in PostgreSQL."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from servers import MlflowServer, Postgres
from study_fakes import script, small_plan
from study_proof import assert_exactly_once, in_child, plan_and_work, run_statuses, start_child, status_of

from mobileone_core.study.record.record import Record
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

DRIVE = Path(__file__).parents[1] / "drive.py"
PATIENCE = 120.0


@pytest.fixture
def mlflow(tmp_path):
    server = MlflowServer(f"sqlite:///{tmp_path}/server.db", tmp_path / "shared", tmp_path / "mlflow.log")
    server.start()
    yield server
    server.kill()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def only(workspace, plan):
    return cell_states(workspace, plan)[0]


@pytest.mark.slow
def test_a_cell_trains_on_while_the_tracking_server_is_away(tmp_path, mlflow):
    plan = small_plan(levels=(1,), seeds=1, epochs=6)
    workspace = Workspace.at(tmp_path / "runs", tracking=mlflow.url)
    child = start_child(plan_and_work, plan, workspace, script(tmp_path / "data", seconds=0.4))
    until(lambda: only(workspace, plan).epoch)
    mlflow.kill()
    state = until(lambda: only(workspace, plan).epoch == 6 and only(workspace, plan))
    assert state.state == "running"
    assert state.warning.startswith("the tracking server is away")
    until((workspace.checkpoints(plan.queue, state.key) / "weights.safetensors").exists)
    assert child.is_alive()
    mlflow.start()
    assert status_of(child) == 0
    assert_exactly_once(plan, workspace)
    assert only(workspace, plan).attempt == 1


@pytest.mark.slow
def test_a_worker_that_is_ended_while_the_tracking_server_is_away_loses_nothing(tmp_path, mlflow):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=6)
    workspace = Workspace.at(tmp_path / "runs", tracking=mlflow.url)
    data = script(tmp_path / "data", seconds=0.3)
    child = start_child(plan_and_work, plan, workspace, data)
    until(lambda: any(item.epoch for item in cell_states(workspace, plan)))
    mlflow.kill()
    state = until(lambda: next((item for item in cell_states(workspace, plan) if item.epoch >= 3), None))
    os.kill(child.pid, signal.SIGTERM)
    assert status_of(child) == 0  # within seconds, though no server answers
    mlflow.start()
    again = start_child(plan_and_work, plan, workspace, data)
    assert status_of(again) == 0
    assert_exactly_once(plan, workspace)
    history = Record(workspace.tracking).client.get_metric_history(
        next(item.run_id for item in cell_states(workspace, plan) if item.key == state.key), "val/top1"
    )
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def cluster():
    """URLs of a queue and of a record, both in PostgreSQL, behind an MLflow server; and a directory."""
    directory = Path(tempfile.mkdtemp(prefix="cluster-"))  # not in pytest's, which no other user may enter
    directory.chmod(0o755)
    postgres = Postgres(directory / "postgres")
    server = MlflowServer(postgres.database("record"), directory / "shared", directory / "mlflow.log")
    server.start()
    yield postgres.database("queue"), server.url, directory
    server.kill()
    postgres.stop()
    shutil.rmtree(directory)


def run_commands(cluster, plan, workers):
    """Let commands of so many workers each plan and work side by side, each in a runs directory of its own."""
    queue, tracking, directory = cluster
    started = []
    for number, count in enumerate(workers):
        settings = {"plan": plan, "runs": str(directory / f"runs{number}"), "workers": count}
        settings |= {"train": "study_fakes:train", "queue": queue, "tracking": tracking}
        path = directory / f"settings{number}.json"
        path.write_text(json.dumps(settings))
        started.append(subprocess.Popen([sys.executable, str(DRIVE), str(path)], stdout=subprocess.PIPE, text=True))
    states = [json.loads(command.communicate(timeout=900)[0].splitlines()[-1])["states"] for command in started]
    return states, Workspace.at(directory / "runs0", queue, tracking)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "workers"),
    [
        ({"levels": [1, 2, 3], "seeds": 10, "epochs": 2}, (2, 1, 1)),
        pytest.param({"levels": [1, 2, 3, 4], "seeds": 50, "epochs": 2}, (3, 3, 2), marks=pytest.mark.long),
    ],
    ids=["30 cells", "200 cells"],
)
@pytest.mark.timeout(1800)
def test_three_commands_share_a_queue_and_a_record_in_postgresql(cluster, plan, workers):
    states, workspace = run_commands(cluster, plan, workers)
    assert all(set(item) == {"complete"} for item in states)
    assert in_child(assert_each_was_run_once, small_plan(**plan), workspace) == 0  # whose connections end with it


def assert_each_was_run_once(plan, workspace):
    assert_exactly_once(plan, workspace)
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert list(statuses.values()) == ["FINISHED"] * len(plan.cells)
