"""Real servers: a tracking server that goes away in the middle of a cell, and queue and record in PostgreSQL."""

import os
import signal
import time

import pytest
from servers import MlflowServer
from study_fakes import script, small_plan
from study_proof import assert_exactly_once, plan_and_work, start_child, status_of

from mobileone_core.study.record.record import Record
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

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
