"""load_run and the names of runs: ids, their beginnings, a runs directory that moved, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from mobileone_core import ModelSpec, build_model, load_run, reparameterize
from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.sets import load_scans, open_splits
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.study.record.reading import read_run, resolve_run
from mobileone_core.study.record.record import Record, create_record
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec

MODEL = ModelSpec.preset("tiny", in_channels=1, k=2)
CELL = CellSpec(MODEL, DataSpec(image_size=16), seed=3)


@pytest.fixture(scope="module")
def recorded(record_cell, tmp_path_factory):
    """A record with two runs, and their ids."""
    workspace = Workspace.at(tmp_path_factory.mktemp("runs"))
    return workspace, record_cell(workspace, CELL), record_cell(workspace, CellSpec(MODEL, seed=1), card=False)


def test_a_run_gives_its_network_with_what_its_user_needs(recorded):
    workspace, run_id, _ = recorded
    model = load_run(run_id[:8], runs=workspace.runs)
    assert (model.run_id, model.class_names, model.training) == (run_id, tuple("0123456789"), False)
    assert model.deployed
    train = load_run(run_id, "train", tracking=workspace.tracking)
    scans, labels = load_scans()
    pictures = [Image.fromarray(scan[0].numpy()) for scan in scans]
    images = torch.stack([model.transform(picture) for picture in pictures[:100]])
    with torch.inference_mode():
        torch.testing.assert_close(model(images), train(images), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(reparameterize(train)(images), model(images), rtol=1e-5, atol=1e-5)
    test = open_splits(CELL.data, None, CELL.seed).test()
    with open_loaders(CELL.data, None, CELL.seed, LoaderOptions(len(test), "none")) as loaders:
        batch, targets = next(iter(loaders.test))
    rows = {picture.numpy().tobytes(): number for number, picture in enumerate(batch)}
    found = [rows.get(model.transform(picture).numpy().tobytes()) for picture in pictures]
    assert sum(number is not None for number in found) == len(batch)  # the same bytes as evaluation reads
    assert all(targets[number] == labels[index] for index, number in enumerate(found) if number is not None)


def test_a_run_names_classes_data_and_preprocessing_in_its_files(recorded, tmp_path):
    workspace, run_id, without = recorded
    run = read_run(workspace.tracking, run_id, tmp_path)
    with safe_open(run.weights, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["class_names"]) == list("0123456789")
    assert (metadata["data"], metadata["key"]) == ("digits", CELL.key)
    assert json.loads(metadata["preprocessing"])["color"] == "grey"
    content = json.loads((run.weights.parent / "model.json").read_text())
    assert content["preprocessing"] == json.loads(metadata["preprocessing"])
    assert type(run.card).read(metadata) == type(run.card).read(content) == run.card
    assert read_run(workspace.tracking, without, tmp_path).card.class_names == tuple("0123456789")  # an older run
    cell = json.loads((run.weights.parent / "cell.json").read_text())
    assert ModelSpec(**cell["model"]) == MODEL  # lists for tuples
    assert build_model(ModelSpec(**cell["model"]), cell["data"]["num_classes"]).spec == MODEL
    assert CellSpec.from_json(json.dumps(cell)) == CELL


@pytest.mark.slow
def test_a_folders_pictures_are_read_as_evaluation_reads_them(record_cell, tmp_path):
    from mobileone_core.data.catalog import resolve_data

    random, root = np.random.default_rng(0), tmp_path / "pets"
    for split, label in (("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "dog")):
        (root / split / label).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (50, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    workspace = Workspace.at(tmp_path / "runs")
    create_runs = CellSpec(ModelSpec.preset("tiny"), resolve_data("folder", root, 32))
    run_id = record_cell(workspace, create_runs, root)
    shutil.move(workspace.runs, tmp_path / "moved")  # a record's artifacts are named by absolute paths
    model = load_run(run_id, runs=tmp_path / "moved")
    assert model.class_names == ("cat", "dog")
    with open_loaders(create_runs.data, root, 0, LoaderOptions(6, "none")) as loaders:
        images, _ = next(iter(loaders.test))
    files = sorted((root / "val").glob("*/*.png"))
    for image, file in zip(images, files, strict=True):
        torch.testing.assert_close(model.transform(Image.open(file)), image)
    card = read_run(f"sqlite:///{tmp_path / 'moved' / 'mlflow.db'}", run_id, tmp_path).card
    assert card.data == f"folder:pets {create_runs.data.fingerprint[:6]}"
    assert card.data_root == str(root)


def test_what_is_no_finished_run_with_weights_is_refused(recorded):
    workspace, run_id, _ = recorded
    record = Record(workspace.tracking)
    number = record.create_experiment("latency", workspace.artifacts).experiment_id
    twin = record.client.create_run(number, run_name="level", tags={"cell": "x", "comparison.runs": "1"}).info.run_id
    record.end(twin, "FINISHED")
    running = record.client.create_run(number, tags={"cell": "x"}).info.run_id
    for run, message in (
        ("", "or how it begins"),
        ("no id", "or how it begins"),
        ("0" * 32, "mobileone status shows"),
        (twin, "has no weights"),
        (running, "a FINISHED run"),
    ):
        with pytest.raises(InputError, match=message):
            load_run(run, runs=workspace.runs)
    assert resolve_run(workspace.tracking, f" {run_id.upper()} ") == run_id
    with pytest.raises(InputError, match="form"):
        load_run(run_id, "folded", runs=workspace.runs)


@pytest.mark.slow
def test_an_ambiguous_beginning_lists_its_runs(tmp_path):
    workspace = Workspace.at(tmp_path / "runs")
    create_record(workspace)
    record = Record(workspace.tracking)
    number = record.create_experiment("study", workspace.artifacts).experiment_id
    ids = [record.client.create_run(number, run_name=f"k={count}").info.run_id for count in range(17)]
    first = next(item[0] for item in ids if sum(other[0] == item[0] for other in ids) > 1)  # 17 runs, 16 digits
    with pytest.raises(InputError, match=r"runs begin so, .*\(k=\d+\), ") as refused:
        resolve_run(workspace.tracking, first)
    assert "\n" not in str(refused.value)
