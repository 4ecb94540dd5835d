"""`mobileone evaluate` and `predict` of detectors and segmenters: of runs and files, drawn into copies."""

import json

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

from mobileone_core import load_run
from mobileone_core.cli import console
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.errors import InputError
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.recipe_presets import RECIPES
from mobileone_core.training.tasks import task_spec
from mobileone_core.training.tasks.task import build_task

pytestmark = pytest.mark.slow
NAMES = {"detection": ("test/map", "test/map50"), "segmentation": ("test/miou",)}
EXIF = 0x0112


@pytest.fixture(autouse=True, scope="module")
def few_scenes():
    with pytest.MonkeyPatch.context() as patch:
        counts = {"train": 64, "val": 16, "test": 32}
        patch.setattr("mobileone_core.data.annotated.loaders.SCENES", counts)
        yield


@pytest.fixture(scope="module", params=NAMES)
def recorded(request, record_cell, tmp_path_factory):
    """The task, the id and the weight file of a run of the record, and the runs directory."""
    task, workspace = request.param, Workspace.at(tmp_path_factory.mktemp("runs"))
    recipe = task_spec(task).default_recipe("scenes")
    assert recipe in RECIPES
    changes = {"model.k": 1, "head.score_threshold": 0.02} if task == "detection" else {"model.k": 1}
    cell = preset_cell("tiny", resolve_data("scenes", None, 32, task=task), recipe, changes, task)
    run = record_cell(workspace, cell)
    [weights] = workspace.runs.glob(f"artifacts/*/{run}/artifacts/weights.safetensors")
    return task, run, weights, workspace.runs


def ran(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        console(list(map(str, arguments)))
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def written(out, runs):
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    run = client.get_run(next(line for line in out.splitlines() if line.startswith("run ")).split()[1].rstrip(":"))
    return run.data, {item.path for item in client.list_artifacts(run.info.run_id)}, client


def test_evaluate_measures_what_the_run_recorded(recorded, capsys):
    task, run, _, runs = recorded
    for form in ("file", "deployed"):
        code, out, err = ran(capsys, "evaluate", "--run", run[:8], "--runs", runs, "--form", form)
        assert code == 0, err
        data, artifacts, client = written(out, runs)
        before = client.get_run(run).data.metrics
        for name in (*NAMES[task], "test/loss", "test/images"):
            assert data.metrics[name] == pytest.approx(before[name], abs=2e-3), name
        expected = {"evaluated_run": run, "task": task, "form": "train" if form == "file" else form, "data": "scenes"}
        assert expected.items() <= data.tags.items()
        assert "examples.png" in artifacts
    assert "examples.png" in {item.path for item in client.list_artifacts(run)}  # the run, which had none
    with pytest.raises(InputError, match=f"a classifier's: .* read those of {task}"):
        load_run(run, runs=runs)


def test_evaluate_measures_a_file(recorded, tmp_path, capsys):
    """The file of a run says what it is; options describe a checkpoint of training, of which averages are preferred."""
    task, run, weights, runs = recorded
    state = load_file(weights)
    last = {f"network.{name}": torch.zeros_like(value) for name, value in state.items()}
    last |= {f"averaged.module.{name}": value for name, value in state.items()} | {
        "averaged.n_averaged": torch.tensor(3)
    }
    torch.save({"state_dict": last, "epoch": 3}, tmp_path / "last.ckpt")
    described = ("--variant", "tiny", "--k", 1, "--data", "scenes", "--image-size", 32)
    for given in ((weights,), (tmp_path / "last.ckpt", *described)):
        code, out, err = ran(capsys, "evaluate", "--task", task, "--weights", *given, "--runs", runs)
        assert code == 0, err
        data, _, client = written(out, runs)
        before = client.get_run(run).data.metrics
        for name in (*NAMES[task], "test/loss"):
            assert data.metrics[name] == pytest.approx(before[name], abs=2e-3), name
        assert data.tags["weights"] == given[0].name
        assert "evaluated_run" not in data.tags
    assert "averaged weights" in out


def test_what_does_not_fit_is_refused(recorded, tmp_path, capsys):
    task, run, weights, runs = recorded
    state = load_file(weights)
    first = next(name for name in state if name.startswith("head.") and name.endswith("weight"))
    save_file({name: value for name, value in state.items() if name != first}, tmp_path / "part.safetensors")
    other = next(name for name in NAMES if name != task)
    described = ("--task", task, "--variant", "tiny", "--k", 1, "--data", "scenes", "--image-size", 32)
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    for given, words in (
        (("evaluate", "--weights", tmp_path / "part.safetensors", *described), ("weights", task, first)),
        (("evaluate", "--weights", weights, "--task", other), ("task", task)),
        (("evaluate", "--weights", weights, "--task", task, "--data", "digits"), ("data", "'digits'", "scenes")),
        (("evaluate", "--weights", weights, "--task", task, "--crop", 0.9), ("crop", "0.9")),
        (("evaluate", "--weights", weights, "--task", task, "--variant", "tiny"), ("--data NAME",)),
        (("evaluate", "--run", run, "--task", task), ("run", "task", "leave it out")),
        (("evaluate", "--run", run, "--class-map", weights), ("class_map", task)),
        (("predict", tmp_path / "a.png", "--run", run, "--top", 3), ("top", task)),
        (("predict", tmp_path / "a.png", "--run", run, "--score-threshold", 1.5), ("score_threshold", "1.5")),
        (("predict", tmp_path / "a.png", "--run", run, "--output", tmp_path / "a.png"), ("output", "a.png")),
        (("predict", tmp_path / "a.png", "--run", run, "--output", weights / "x"), ("output", "directory")),
        (("predict", tmp_path / "a.png", weights, "--run", run, "--output", "b.png"), ("output", "2 pictures")),
        (("predict", tmp_path / "a.png", "--weights", weights, "--variant", "s0"), ("variant", "leave it out")),
        (("predict", tmp_path / "a.png", "--weights", weights, "--data", "voc"), ("data", "'voc'", "scenes")),
    ):  # fmt: skip
        code, _, err = ran(capsys, *given, "--runs", runs)
        assert (code, err.count("\n")) == (2, 1), (given, err)
        assert all(word in err for word in words), (given, err)


def test_predict_draws_into_copies(recorded, tmp_path, capsys, monkeypatch):
    task, run, weights, runs = recorded
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (96, 64), dtype=np.uint8)
    (tmp_path / "more").mkdir()
    Image.fromarray(pixels).save("one.png")
    exif = Image.Exif()
    exif[EXIF] = 6
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save("more/one.png", exif=exif)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    score = ("--score-threshold", 0.1) if task == "detection" else ()
    code, out, err = ran(capsys, "predict", "one.png", "more", "--run", run[:9], "--runs", runs, *score, "--json")
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    outputs = [f"predictions/one-predicted{mark}.png" for mark in ("", "-2")]
    assert [first.pop("output"), second.pop("output")] == outputs
    assert [first.pop("image"), second.pop("image")] == ["one.png", "more/one.png"]
    assert first == second  # turned as EXIF says
    assert all(path.read_bytes() == content for path, content in before.items())
    drawn = [pixels_of(path) for path in outputs]
    assert np.array_equal(*drawn)
    assert drawn[0].shape == (96, 64, 3)
    changed = (drawn[0] != pixels[:, :, None]).any(2)
    assert changed.any()
    if task == "segmentation":
        [rows] = first.values()
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)
        background = sum(row["share"] for row in rows if row["name"] == "background")
        assert changed.mean() == pytest.approx(1 - background, abs=0.01)
    else:
        [objects] = first.values()
        assert objects
        assert all(0.1 <= item["score"] <= 1 and item["name"] in "0123456789" for item in objects)
        for left, top, right, bottom in (item["box"] for item in objects):
            assert 0 <= left <= right <= 64
            assert 0 <= top <= bottom <= 96
    code, out, err = ran(capsys, "predict", "one.png", "--weights", weights, *score, "--output", "here/of.jpg")
    assert (code, pixels_of("here/of.jpg").shape) == (0, (96, 64, 3)), err
    lines = out.splitlines()
    assert lines[0] == "one.png -> here/of.jpg"
    assert len(lines) == 1 + len(next(iter(first.values())))
    code, _, err = ran(capsys, "predict", "one.png", "none.png", "--run", run, "--runs", runs, "--output", ".")
    assert (code, "none.png" in err, (tmp_path / "one-predicted.png").is_file()) == (2, True, True)
    assert (tmp_path / "one.png").read_bytes() == before[tmp_path / "one.png"]


def test_predictions_are_those_of_the_network(recorded, tmp_path, capsys):
    """On an image of the network's size, by the task itself: boxes and classes without any scaling."""
    task, run, weights, runs = recorded
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "a.png")
    recipe = task_spec(task).default_recipe("scenes")
    changes = {"model.k": 1, "head.score_threshold": 0.02} if task == "detection" else {"model.k": 1}
    made = build_task(preset_cell("tiny", resolve_data("scenes", None, 32, task=task), recipe, changes, task))
    network = made.build_network().eval()
    network.load_state_dict(load_file(weights))
    image = Preprocessing.of(made.spec.data)(Image.fromarray(pixels_of(tmp_path / "a.png")))[None]
    with torch.inference_mode():
        [expected] = made.predictions(network(image), image)
    score = ("--score-threshold", 0.1) if task == "detection" else ()
    given = ("predict", tmp_path / "a.png", "--run", run, "--runs", runs, "--output", tmp_path, "--json", *score)
    _, out, _ = ran(capsys, *given)
    shown = json.loads(out)
    if task == "segmentation":
        mask = expected.argmax(0)
        names = ["background", *map(str, range(10))]
        counts = {names[number]: (mask == number).float().mean().item() for number in mask.unique().tolist()}
        assert {row["name"]: row["share"] for row in shown["classes"]} == pytest.approx(counts, abs=2 / 1024)
    else:
        kept = expected["scores"] >= 0.1
        assert [row["score"] for row in shown["objects"]] == pytest.approx(expected["scores"][kept].tolist(), abs=1e-4)
        assert [row["name"] for row in shown["objects"]] == [
            str(label - 1) for label in expected["labels"][kept].tolist()
        ]
        boxes = [row["box"] for row in shown["objects"]]
        assert np.allclose(boxes, expected["boxes"][kept].numpy(), atol=1e-2)
