"""Shared by all tests: repeatable examples, one thread per process, and one fork server per pytest process."""

import functools
import itertools
import os
import shutil
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest
from hypothesis import settings

# Examples of hypothesis are the same every time, so that no result depends on luck.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("quick", settings.get_profile("repeatable"), max_examples=25)  # of .ci/check
settings.load_profile("repeatable")

# pytest-xdist fills the cores; threads of torch that wait for a core only spin. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # a width that workers of pytest-xdist have; the output is no terminal

# A process has one fork server, which imports what the first study preloads. Here that is all that any study needs.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "preload"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
forkserver.set_forkserver_preload(["preloaded"])
forkserver.set_forkserver_preload = lambda _: None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the cases slow that quick_cases does not name: those without any of its ids among their parameters."""
    for item in items:
        for mark in item.iter_markers("quick_cases"):
            if not set(mark.args) & {item.callspec.id, *item.callspec.id.split("-")}:
                item.add_marker("slow")


CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def browser():
    """Chromium of this machine, without a window. The test is skipped, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium-headless-shell")
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session", autouse=True)
def copied_records(tmp_path_factory):
    """Create MLflow's tables once and copy them for every record: its migrations take a second and a half each time."""
    record = sys.modules.get("mobileone_core.study.record.record")
    if record is None:  # none of the tests that were collected writes a record
        yield
        return
    from mobileone_core.study.database import sqlite_path, sqlite_url

    template, Store = tmp_path_factory.mktemp("record") / "mlflow.db", record.SqlAlchemyStore

    def create_store(url, artifacts):
        if not template.exists():
            Store(sqlite_url(template), artifacts).engine.dispose()
        if (path := sqlite_path(url)) is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template, path)
        return Store(url, artifacts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "SqlAlchemyStore", create_store)
        yield


@pytest.fixture(scope="session")
def onnx_registry():
    """Let the exporter of ONNX list its operators once, not for every network: that takes a second each time."""
    from torch.onnx._internal.exporter import _registration

    registry, listed = _registration.ONNXRegistry, _registration.ONNXRegistry.__dict__["from_torchlib"]
    registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))
    yield
    registry.from_torchlib = listed


@pytest.fixture(scope="session")
def cell():
    """A cell of 4 steps per epoch that trains in a fraction of a second."""
    from mobileone_core.data.spec import DataSpec
    from mobileone_core.model.spec import ModelSpec
    from mobileone_core.training.cell import CellSpec
    from mobileone_core.training.recipe import Recipe

    model = ModelSpec(widths=(8, 12), depths=(1, 1), k=2, stage_strides=(2, 2), in_channels=1)
    usual = {"epochs": 2, "batch_size": 256, "warmup_epochs": 0.5, "nesterov": True, "label_smoothing": 0.1}
    return CellSpec(model, DataSpec(image_size=16), Recipe(**usual, ema_decay=0.5, augmentation="crop"))


@pytest.fixture(scope="session")
def record_cell():
    """A function that records a finished run of a cell, with calibrated random weights, and returns its run's id."""

    def record(workspace, cell, data_root=None, *, study="branch_count", card=True):
        from dataclasses import replace

        import torch
        from safetensors.torch import save_file

        from mobileone_core.data.loaders import LoaderOptions
        from mobileone_core.model.network import calibrate
        from mobileone_core.study.plan import PlannedCell
        from mobileone_core.study.record.record import Record, create_record
        from mobileone_core.training.evaluate import evaluate
        from mobileone_core.training.model_card import model_card
        from mobileone_core.training.observer import CellResult, EpochRecord
        from mobileone_core.training.tasks.task import build_task

        create_record(workspace)
        writing = Record(workspace.tracking)
        writing.create_experiment(study, workspace.artifacts)
        run = writing.start(PlannedCell(cell, study, "tiny", {"k": cell.model.k}), {"attempt": "1"})
        torch.manual_seed(cell.seed)
        path = workspace.runs / "weights.safetensors"
        plain = build_task(replace(cell, recipe=cell.recipe.changed(label_smoothing=0.0)))
        network = plain.build_network()
        with plain.open_data(data_root, LoaderOptions(64, "none")) as loaders:
            calibrate(network, [images for images, _ in itertools.islice(loaders.train, 4)])
            measured = evaluate(network, plain, loaders.test, stage="test", device=torch.device("cpu"))
        made = model_card(cell, data_root)
        save_file(network.state_dict(), path, made.metadata() if card else None)
        result = CellResult(measured, path, made.content() if card else {})
        run.log_result(PlannedCell(cell, study, "tiny", {}), result, EpochRecord(1, 1, 0, {}))
        writing.end(run.run_id, "FINISHED")
        return run.run_id

    return record
