"""`mobileone evaluate --run` of a detector and of a segmenter: the metrics that its cell recorded."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient
from PIL import Image

from mobileone_core import ModelSpec, load_run
from mobileone_core.cli import console
from mobileone_core.data.catalog import resolve_data
from mobileone_core.errors import InputError
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.recipe import Recipe

HEADS = {
    "detection": (HeadSpec(stride=8, extras=(16,), scales=(0.2, 0.6, 0.8), score_threshold=0.05), 32),
    "segmentation": (HeadSpec(width=8, rates=(1, 2)), 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
def test_evaluate_measures_what_the_run_recorded(task, record_cell, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mobileone_core.data.annotated.loaders.SCENES", {"train": 64, "val": 16, "test": 32})
    head, stride = HEADS[task]
    model = ModelSpec(widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 2), in_channels=1)
    data = resolve_data("scenes", None, 32, task=task)
    recipe = Recipe(1, 16, label_smoothing=0.0, augmentation="none")
    cell = CellSpec(replace(model, output_stride=stride), data, recipe, task=task, head=head)
    workspace = Workspace.at(tmp_path / "runs")
    run = record_cell(workspace, cell)
    client = MlflowClient(workspace.tracking)
    recorded = client.get_run(run).data.metrics
    for form in ("file", "deployed"):
        with pytest.raises(SystemExit) as ended:
            console(["evaluate", "--run", run[:8], "--runs", str(workspace.runs), "--form", form])
        out = capsys.readouterr().out
        assert not ended.value.code, out
        written = client.get_run(out.split()[-1]).data
        names = {"detection": ("test/map", "test/map50"), "segmentation": ("test/miou",)}[task]
        for name in (*names, "test/loss", "test/images"):
            assert written.metrics[name] == pytest.approx(recorded[name], abs=2e-3), name
        assert written.tags["evaluated_run"] == run[:8]
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    for command in (["predict", str(tmp_path / "a.png")], ["export", "--output", str(tmp_path / "net.onnx")]):
        with pytest.raises(SystemExit) as ended:  # refused: the backbone alone would be another network
            console([*command, "--run", run[:8], "--runs", str(workspace.runs)])
        assert ended.value.code == 2
        assert "is not allowed; those of a classifier (head.fc. or linear.)" in capsys.readouterr().err
    with pytest.raises(InputError):
        load_run(run, runs=workspace.runs)
