"""The record is served on this machine alone, and what is in the way is said."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from study_proof import give_databases

from mobileone_core.errors import InputError
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.record.access import TRIED, free_port, serve
from mobileone_core.study.record.record import Record
from mobileone_core.study.record.views import save_views
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import EpochRecord, NullObserver
from mobileone_core.training.run import train_cell


def taken(port):
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_a_record_that_is_not_there_is_named(workspace):
    with pytest.raises(InputError, match=r"mlflow.db: no record here yet"):
        serve(workspace, 5000)
    assert not workspace.runs.exists()


def test_a_file_that_is_no_record_is_named(workspace):
    workspace.runs.mkdir()
    (workspace.runs / "mlflow.db").write_text("notes " * 100)
    with pytest.raises(InputError, match="not a database"):
        serve(workspace, 5000)


def test_a_taken_port_is_passed_by():
    with taken(0) as listener:
        port = listener.getsockname()[1]
        assert port < free_port(port) < port + TRIED


def test_a_port_out_of_range_is_named():
    with pytest.raises(InputError, match="port: 70000 is not allowed"):
        free_port(70000)


@pytest.fixture
def served():
    """Serves a record in a process; gives the process and the lines that it prints, once it answers."""
    started = []

    def serve_record(workspace, port, lines):
        code = (
            "import sys; from pathlib import Path; from mobileone_core.study.record.access import serve; "
            "from mobileone_core.study.workspace import Workspace; "
            f"sys.exit(serve(Workspace.at(Path({str(workspace.runs)!r})), {port}))"
        )
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        printed = [process.stdout.readline().split() for _ in range(lines)]
        return process, printed, answer(printed[0][0], process)

    yield serve_record
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=60)


@pytest.mark.slow
def test_the_ui_answers_and_ends_with_ctrl_c(databases, workspace, served):
    give_databases(databases, workspace)
    process, ((address, *_),), page = served(workspace, 5300, lines=1)
    assert address.startswith("http://127.0.0.1:")
    assert b"mlflow" in page.lower()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)


@pytest.fixture
def trained_runs(cell, databases, workspace, tmp_path):
    """A record of two trained cells, k = 1 and 2; their runs' ids by k."""
    give_databases(databases, workspace)
    record = Record(workspace.tracking)
    record.create_experiment("branch_count", workspace.artifacts)
    runs = {}
    for k in (1, 2):
        planned = PlannedCell(replace(cell, model=replace(cell.model, k=k)), "branch_count", "tiny", {"k": k})
        run = record.start(planned, {"queue": "branch_count"})
        files = tmp_path / f"k{k}"
        result = train_cell(planned.spec, execution=Execution("cpu"), data_root=None, directory=files,
                            observer=NullObserver(), teachers={})  # fmt: skip
        run.log_result(planned, result, EpochRecord(1, 1, 0, {}))
        record.end(run.run_id, "FINISHED")
        runs[k] = run.run_id
    return runs


@pytest.mark.slow
def test_runs_are_grouped_by_factor_and_carry_what_was_made_of_them(browser, cell, workspace, trained_runs, served):
    """The address that is printed for a study; then a run by its name, its data set with digest, and its files."""
    _, ((address, *_), (study, url)), _ = served(workspace, 5350, lines=2)
    assert (study, url.startswith(address)) == ("branch_count:", True)
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    for text in ("Group: 1", "Group: 2", "test/top1", "factor.k", f"digits ({cell.data.digest})"):
        page.get_by_text(text).first.wait_for(timeout=60_000)
    page.get_by_role("link", name="k=2 seed=0").click()
    page.get_by_text(trained_runs[2]).first.wait_for(timeout=60_000)
    assert trained_runs[2] in page.url
    page.get_by_text(f"({cell.data.digest})").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    for name in ("cell.json", "confusion.csv", "confusion.png", "model.json", "weights.safetensors"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("mistakes.png", exact=True).click()
    page.locator("img[src^='blob:'], .image-outer-container img").first.wait_for()
    page.goto(f"{address}/#/runs/{trained_runs[1]}")  # the address that the pages of reports link to
    page.get_by_text("k=1 seed=0").first.wait_for(timeout=60_000)
    assert not [request for request in requests if not request.startswith((address, "data:", "blob:"))]


def test_view_groups_by_all_factors_and_shows_the_metrics_that_runs_have(cell, databases, workspace):
    """The view is JSON in a tag that MLflow's UI reads; a study without finished runs has none."""
    give_databases(databases, workspace)
    record = Record(workspace.tracking)
    for study in ("branch_count", "activation"):
        record.create_experiment(study, workspace.artifacts)
    run = record.start(PlannedCell(cell, "branch_count", "tiny", {"k": 1, "se": "none"}), {})
    run.log({"test/top1": 0.5, "latency/median_ms": 2.0})
    assert save_views(workspace.tracking, "http://here") == []
    record.end(run.run_id, "FINISHED")
    (line,) = save_views(workspace.tracking, "http://here")
    experiment = record.experiment("branch_count")
    assert line.startswith(f"  branch_count: http://here/#/experiments/{experiment.experiment_id}/runs?")
    state = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.factors"])["state"])
    assert [key["groupByData"] for key in state["groupBy"]["groupByKeys"]] == ["factor.k", "factor.se"]
    assert state["selectedColumns"][2:] == ["metrics.`test/top1`", "metrics.`latency/median_ms`"]
    assert "mlflow.sharedViewState.factors" not in record.experiment("activation").tags


def answer(address, process):
    for _ in range(600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return response.read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it never answered")
