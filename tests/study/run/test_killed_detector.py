"""A worker that trains a detector is killed in mid-cell; the cell goes on, with results the same to the bit."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from study_fakes import FAST, FEW_SCENES
from study_proof import give_databases, run_plan, run_statuses

from mobileone_core.data.catalog import resolve_data
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.record.record import Record
from mobileone_core.study.state import cell_states
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.observer import NullObserver
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.run import train_cell

MODEL = ModelSpec(widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 2), in_channels=1)
RECIPE = Recipe(2, 16, "adamw", 2e-3, label_smoothing=0.0, ema_decay=0.8, augmentation="none")
HEAD = HeadSpec(stride=8, extras=(16,), scales=(0.2, 0.6, 0.8), score_threshold=0.05, detections=20)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ema_decay")
def test_a_killed_detector_is_resumed_to_the_bit(workspace, databases, tmp_path, monkeypatch):
    k = Factor("k", "model.k", levels=(2,), baseline=2)
    names = {"task": "detection", "data": "scenes", "recipe": "scenes-ssdlite", "metric": "test/map50"}
    study = Study("detection", "Is it resumed?", (k,), seeds=1, **names)
    data = resolve_data("scenes", None, 32, task="detection")
    plan = GridPlan(study, CellSpec(MODEL, data, RECIPE, task="detection", head=HEAD))
    give_databases(databases, workspace)
    outcome, _ = run_plan(plan, workspace, workers=1, engine=replace(FAST, train="study_fakes:train_and_die"))
    assert outcome.is_complete
    [state] = cell_states(workspace, plan)
    assert state.attempt == 2  # the first was killed after six of eight steps
    record = Record(workspace.tracking)
    assert sorted(run_statuses(record, "detection").values()) == ["FINISHED", "KILLED"]
    resumed = load_file(record.file(state.run_id, "weights.safetensors", tmp_path))
    monkeypatch.setattr("mobileone_core.data.annotated.loaders.SCENES", FEW_SCENES)
    whole = train_cell(
        plan.cells[0].spec, execution=Execution("cpu"), data_root=None, directory=tmp_path, observer=NullObserver()
    )
    expected = load_file(whole.weights)
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.items())
    metrics = record.client.get_run(state.run_id).data.metrics
    assert metrics["test/map50"] == whole.metrics["test/map50"]
    assert metrics["test/loss"] == whole.metrics["test/loss"]
