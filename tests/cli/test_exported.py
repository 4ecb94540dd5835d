"""An exported file says all that an application needs: used here from its manifest alone."""

import itertools
import json

import coremltools
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from mobileone_core import ModelSpec, load_run
from mobileone_core.cli import console
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.sets import load_scans
from mobileone_core.data.spec import DataSpec
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec

pytestmark = pytest.mark.usefixtures("onnx_registry")
TINY = ModelSpec.preset("tiny", k=1)
DIGITS = CellSpec(TINY.changed(in_channels=1), DataSpec(image_size=16), seed=3)
CLASSES = ("2", "10", "ant")  # a name that is no number: sorted as text


@pytest.fixture(scope="module")
def recorded(record_cell, tmp_path_factory):
    """A runs directory; ids of a run on digits and of one on a folder; the folder."""
    root = tmp_path_factory.mktemp("pets")
    for split, (label, name), number in itertools.product(("train", "val"), enumerate(CLASSES), range(6)):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([label, number]).integers(0, 150, (40, 50, 3), dtype=np.uint8)
        pixels[..., label] += 60
        Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    workspace = Workspace.at(tmp_path_factory.mktemp("runs"))
    cell = CellSpec(TINY, resolve_data("folder", root, 32))
    return workspace.runs, record_cell(workspace, DIGITS), record_cell(workspace, cell, root), root


def exported(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        console(["export", *map(str, arguments)])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.err) == (0, "")
    return shown.out


def as_input(picture, manifest):
    """A picture as the manifest says, without this package."""
    [tensor], steps = manifest["inputs"], manifest["preprocessing"]
    assert (tensor["layout"], tensor["normalization"], tensor["range"]) == ("NCHW", "outside", [0.0, 1.0])
    picture, size = picture.convert({"RGB": "RGB", "grey": "L"}[tensor["color"]]), steps["size"]
    how = Image.Resampling[steps["interpolation"].upper()]
    if steps["resize"] is None:
        picture = picture.resize((size, size), how)
    else:
        factor = steps["resize"] / min(picture.size)
        picture = picture.resize([int(side * factor) for side in picture.size], how)
        left, top = (round((side - size) / 2) for side in picture.size)
        picture = picture.crop((left, top, left + size, top + size))
    pixels = np.asarray(picture, np.float32).reshape(size, size, -1) / 255
    return ((pixels - tensor["mean"]) / tensor["std"]).transpose(2, 0, 1).astype(tensor["dtype"])


def test_pictures(which, root):
    """The pictures of the test set and the names of their classes."""
    if which == "folder":
        return [(Image.open(path), path.parent.name) for path in sorted(root.glob("val/*/*.png"))]
    from mobileone_core.data.sets import DIGITS_TEST_FRACTION, DIGITS_TEST_SEED, carve

    scans, labels = load_scans()
    _, test = carve(labels.numpy(), DIGITS_TEST_FRACTION, DIGITS_TEST_SEED, "digits test")
    return [(Image.fromarray(scans[index, 0].numpy()), str(int(labels[index]))) for index in test]


test_pictures.__test__ = False


@pytest.mark.parametrize("which", ["digits", "folder"])
def test_the_manifest_alone_gives_the_accuracy_of_the_record(which, recorded, tmp_path, capsys):
    runs, root, run = recorded[0], recorded[3], recorded[1 if which == "digits" else 2]
    exported(capsys, "--run", run[:9], "--runs", runs, "--output", tmp_path / "net.onnx", "--license", "CC0-1.0")
    manifest = json.loads((tmp_path / "net.onnx.json").read_text())
    pictures = test_pictures(which, root)
    batch = np.stack([as_input(picture, manifest) for picture, _ in pictures])
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    [output] = manifest["outputs"]
    (logits,) = session.run([output["name"]], {manifest["inputs"][0]["name"]: batch})
    named = [manifest["labels"][number] for number in logits.argmax(1)]
    right = np.mean([name == label for name, (_, label) in zip(named, pictures, strict=True)])
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    assert right == pytest.approx(client.get_run(run).data.metrics["test/top1"], abs=1.5 / len(pictures))
    model = onnx.load(tmp_path / "net.onnx")
    metadata = {item.key: item.value for item in model.metadata_props}
    assert metadata == manifest["metadata"]
    assert json.loads(metadata["mobileone.labels"]) == manifest["labels"]
    assert (metadata["mobileone.license"], metadata["mobileone.run"]) == ("CC0-1.0", run)
    assert json.loads(metadata["mobileone.inputs"])[0]["shape"][0] == "batch"
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [item.dim_param or item.dim_value for item in shape] == manifest["inputs"][0]["shape"]
    assert model.doc_string == manifest["description"]
    assert model.graph.input[0].doc_string


@pytest.mark.slow
def test_a_fixed_batch_and_float16(recorded, tmp_path, capsys):
    given = ("--run", recorded[1], "--runs", recorded[0])
    exported(capsys, *given, "--output", tmp_path / "two.onnx", "--batch-size", 2)
    dims = onnx.load(tmp_path / "two.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [item.dim_value for item in dims] == [2, 1, 16, 16]
    assert json.loads((tmp_path / "two.onnx.json").read_text())["inputs"][0]["shape"] == [2, 1, 16, 16]
    exported(capsys, *given, "--output", tmp_path / "half.onnx", "--precision", "float16")
    half = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    kinds = {item.data_type for item in onnx.load(tmp_path / "half.onnx").graph.initializer if item.dims}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    images = np.random.default_rng(0).standard_normal((5, 1, 16, 16), dtype=np.float32)
    (rough,) = half.run(None, {"images": images})
    with torch.inference_mode():
        exact = load_run(recorded[1], runs=recorded[0])(torch.from_numpy(images)).numpy()
    assert 0 < np.abs(rough - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.slow
def test_a_core_ml_classifier_names_the_classes_of_its_folder(recorded, tmp_path, capsys):
    runs, _, run, root = recorded
    package = tmp_path / "net.mlpackage"
    exported(capsys, "--run", run, "--runs", runs, "--input", "image", "--output", package, "--author", "A. Person")
    manifest = json.loads((package / "mobileone.json").read_text())
    spec = coremltools.models.utils.load_spec(str(package))
    about = spec.description.metadata
    assert manifest["labels"] == sorted(CLASSES)
    assert manifest["data"].startswith(f"folder:{root.name} ")
    assert (manifest["input"], manifest["inputs"][0]["normalization"]) == ("image", "inside")
    assert (about.author, about.license) == ("A. Person", "not stated")
    assert about.shortDescription == manifest["description"]
    assert "RGB image of 32 x 32" in spec.description.input[0].shortDescription
    names = {item.name for item in spec.description.output}
    assert names == {item["name"] for item in manifest["outputs"]}
    assert json.loads(about.userDefined["mobileone.labels"]) == manifest["labels"]
