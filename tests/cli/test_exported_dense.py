"""Detectors and segmenters as files: run from their manifests alone, they give what torch gives."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file

from mobileone_core.cli import console
from mobileone_core.coreml.evaluate import evaluate
from mobileone_core.coreml.program import read_program
from mobileone_core.data.loaders import LoaderOptions
from mobileone_core.data.spec import DataSpec
from mobileone_core.model.network import outputs_of
from mobileone_core.model.spec import ModelSpec
from mobileone_core.onnx.export import Suppression
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.detection import Detection
from mobileone_core.training.tasks.task import build_task

sys.path.insert(0, str(Path(__file__).parent))
from test_exported import as_input

pytestmark = pytest.mark.usefixtures("onnx_registry")
SIZE = 32
NETWORK = ModelSpec(in_channels=1, widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 1))
RECIPE = Recipe(1, 32, "adamw", 1e-3, label_smoothing=0.0, ema_decay=0.0, augmentation="none")
HEADS = {
    "detection": HeadSpec(
        stride=4, extras=(16, 16), scales=(0.2, 0.6, 0.8), pooled=True, score_threshold=0.05, detections=20
    ),
    "segmentation": HeadSpec(width=8, rates=(1, 2), aux_weight=0.4),
}


def dense_cell(task, **changes):
    data = DataSpec("scenes", SIZE, 11 if task == "segmentation" else 10, 1)
    return CellSpec(NETWORK, data, RECIPE, task=task, head=HEADS[task], **changes)


@pytest.fixture(scope="module")
def recorded(record_cell, tmp_path_factory):
    """A runs directory, and ids of the runs of a detector and a segmenter by task."""
    workspace = Workspace.at(tmp_path_factory.mktemp("runs"))
    return workspace.runs, {task: record_cell(workspace, dense_cell(task)) for task in HEADS}


@pytest.fixture
def export(recorded, tmp_path, capsys):
    """Exports a task's run; the file's path, its manifest and what was printed."""

    def exported(task, name, *options):
        path = tmp_path / name
        with pytest.raises(SystemExit) as ended:
            console(["export", "--run", recorded[1][task], "--runs", str(recorded[0]), "--output", str(path), *options])
        shown = capsys.readouterr()
        assert (ended.value.code, shown.err) == (0, "")
        manifest = path / "mobileone.json" if path.is_dir() else path.with_name(f"{name}.json")
        return path, json.loads(manifest.read_text()), shown.out

    return exported


def trained(recorded, task):
    """The task of a run, its network with branches, and the first images of its test set."""
    client = MlflowClient(f"sqlite:///{recorded[0] / 'mlflow.db'}")
    network = (built := build_task(dense_cell(task))).build_network().eval()
    network.load_state_dict(load_file(client.download_artifacts(recorded[1][task], "weights.safetensors")))
    with built.open_data(None, LoaderOptions(4, "none")) as loaders:
        images = next(iter(loaders.test))[0]
    return built, network, images


def pictures(images, manifest):
    """The input of the file for images that were normalized by our own reader."""
    [tensor] = manifest["inputs"]
    pixels = (images * tensor["std"][0] + tensor["mean"][0]) * 255
    scans = [Image.fromarray(item.round().byte().numpy()) for item in pixels[:, 0]]
    return np.stack([as_input(scan, manifest) for scan in scans])


def detections(boxes, scores, rule):
    """Follow the manifest's text with numpy: boxes, scores and classes of one image."""
    kept = []
    for number, of_class in enumerate(scores.T):
        order = [index for index in np.argsort(-of_class, kind="stable") if of_class[index] > rule["score_threshold"]]
        staying = []
        for index in order[: rule["detections"]]:
            if all(overlap(boxes[index], boxes[other]) <= rule["overlap"] for other in staying):
                staying.append(index)
        kept += [(of_class[index], number, index) for index in staying]
    kept = sorted(kept, key=lambda item: -item[0])[: rule["detections"]]
    return (boxes[[item[2] for item in kept]], *(np.array([item[part] for item in kept]) for part in (0, 1)))


def overlap(one, other):
    inter = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return inter / (sum(areas) - inter)


@pytest.mark.slow
def test_a_detector_of_its_manifest_alone_gives_the_boxes_of_the_record(recorded, export):
    path, manifest, out = export("detection", "net.onnx")
    task, network, images = trained(recorded, "detection")
    assert "detects 10 classes of scenes" in manifest["description"]
    assert manifest["labels"] == [*map(str, range(10))]
    assert manifest["nms"]["where"] == "outside"
    assert manifest["title"].endswith("detection")
    session = onnxruntime.InferenceSession(path)
    raw = session.run([item["name"] for item in manifest["outputs"]], {"images": pictures(images, manifest)})
    assert [list(item.shape[1:]) for item in raw] == [item["shape"][1:] for item in manifest["outputs"]]
    with torch.inference_mode():
        expected = task.predictions(network(images), images)
    for boxes, scores, wanted in zip(*raw, expected, strict=True):
        shown = detections(boxes, scores, manifest["nms"]["rule"])
        assert len(shown[0]) == len(wanted["boxes"]) > 3
        for values, name in zip(shown, ("boxes", "scores", "labels"), strict=True):
            np.testing.assert_allclose(values + (name == "labels"), wanted[name].numpy(), atol=1e-3)
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert metadata == manifest["metadata"]
    assert json.loads(metadata["mobileone.nms"]) == manifest["nms"]
    assert metadata["mobileone.test/map50"]
    assert "weights" in out


@pytest.mark.slow
def test_anchors_of_the_manifest_are_those_of_the_detector(recorded, export):
    manifest = export("detection", "net.onnx")[1]
    _, network, images = trained(recorded, "detection")
    boxes = []
    for grid in manifest["anchors"]["maps"]:
        for row, column, (width, height) in itertools.product(
            range(grid["rows"]), range(grid["columns"]), grid["sides"]
        ):
            x, y = ((index + 0.5) / count * SIZE for index, count in ((column, grid["columns"]), (row, grid["rows"])))
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    with torch.inference_mode():
        anchors = network(images[:1])["anchors"]
    assert len(boxes) == manifest["anchors"]["count"]
    np.testing.assert_allclose(boxes, anchors.numpy(), atol=2e-3)


@pytest.mark.slow
def test_nms_inside_the_file(recorded, export):
    path, manifest, _ = export("detection", "net.onnx", "--nms")
    task, network, images = trained(recorded, "detection")
    assert (manifest["nms"]["where"], manifest["inputs"][0]["shape"][0]) == ("inside", 1)
    assert manifest["verified"]["census"]["NonMaxSuppression"] == 1
    session = onnxruntime.InferenceSession(path)
    assert [item.name for item in session.get_outputs()] == [item["name"] for item in manifest["outputs"]]
    for image in images:
        boxes, scores, classes = session.run(None, {"images": pictures(image[None], manifest)})
        with torch.inference_mode():
            [wanted] = task.predictions(network(image[None]), image[None])
        np.testing.assert_allclose(boxes, wanted["boxes"].numpy(), atol=1e-3)
        np.testing.assert_allclose(scores, wanted["scores"].numpy(), atol=1e-5)
        assert (classes + 1).tolist() == wanted["labels"].tolist()


@given(numbers=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.0, 0.1, 0.5, 0.99]), most=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_the_end_of_the_file_is_torchvisions_nms(numbers, threshold, most):
    """Against the postprocessing of torchvision's SSD, of random boxes."""
    draw = torch.Generator().manual_seed(numbers)
    starts, sides = torch.rand(40, 2, generator=draw) * 20, torch.rand(40, 2, generator=draw) * 12
    anchors = torch.cat([starts, starts + sides], 1)
    logits = torch.randn(1, 40, 4, generator=draw) * 3
    head = HeadSpec(score_threshold=threshold, nms_threshold=0.4, detections=most)
    task = Detection(CellSpec(data=DataSpec("scenes"), recipe=Recipe(augmentation="none"), task="detection", head=head))
    outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(1, 40, 4), "anchors": anchors}
    [wanted] = task.predictions(outputs, torch.zeros(1, 1, 32, 32))
    session = onnxruntime.InferenceSession(Suppression(threshold, 0.4, most).model(10, 20).SerializeToString())
    given_boxes, given_scores = anchors.clamp(0, 32)[None], logits.softmax(-1)[..., 1:]
    raw = {"raw_boxes": given_boxes.numpy(), "raw_scores": given_scores.numpy()}
    boxes, scores, classes = map(torch.from_numpy, session.run(None, raw))
    torch.testing.assert_close(boxes, wanted["boxes"])
    torch.testing.assert_close(scores, wanted["scores"])
    assert (classes + 1).tolist() == wanted["labels"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("kind", ["tensor", "image"])
def test_core_ml_programs_give_torchs_outputs(task, kind, recorded, export):
    options = ("--precision", "float32") if kind == "tensor" else ()
    path, manifest, out = export(task, "net.mlpackage", "--input", kind, *options)
    built, network, images = trained(recorded, task)
    inputs = torch.from_numpy(pictures(images[:1], {**manifest, "inputs": [tensor_input(manifest)]}))
    if kind == "image":
        [tensor] = manifest["inputs"]
        inputs = ((inputs * tensor["std"][0] + tensor["mean"][0]) * 255).round()
    outputs = evaluate(read_program(path), {"images": inputs})
    assert [*outputs] == [item["name"] for item in manifest["outputs"]]
    assert [list(item.shape) for item in outputs.values()] == [item["shape"] for item in manifest["outputs"]]
    with torch.inference_mode():
        expected = outputs_of(built.exportable(network, SIZE), images[:1])
    for output, wanted in zip(outputs.values(), expected, strict=True):
        assert (output - wanted).abs().max() <= (1e-4 if kind == "tensor" else 0.02) * wanted.abs().max()
    assert "verified" in out


def tensor_input(manifest):
    return {**manifest["inputs"][0], "normalization": "outside", "range": [0.0, 1.0], "dtype": "float32"}


@pytest.mark.slow
def test_a_segmenter_of_its_manifest_alone_gives_the_classes_of_the_record(recorded, export):
    path, manifest, _ = export("segmentation", "net.onnx")
    _, network, images = trained(recorded, "segmentation")
    [output] = manifest["outputs"]
    (logits,) = onnxruntime.InferenceSession(path).run([output["name"]], {"images": pictures(images, manifest)})
    with torch.inference_mode():
        expected = network(images)
    assert manifest["labels"][0] == "background"
    assert output["shape"] == ["batch", *expected.shape[1:]]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_another_size_of_a_weight_file(recorded, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    client = MlflowClient(f"sqlite:///{recorded[0] / 'mlflow.db'}")
    shutil.copy(client.download_artifacts(recorded[1]["detection"], "weights.safetensors"), weights)
    options = ["--weights", str(weights), "--image-size", "48", "--output", str(tmp_path / "net.onnx")]
    with pytest.raises(SystemExit) as ended:
        console(["export", *options])
    assert ended.value.code == 0
    assert "exported for 48 px" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "net.onnx.json").read_text())
    assert manifest["decoding"]["clipped"] == [0, 48]
    [session] = [onnxruntime.InferenceSession(tmp_path / "net.onnx")]
    assert session.get_inputs()[0].shape == ["batch", 1, 48, 48]


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("segmentation", ("--nms",), "nms: True is not allowed; for detectors; leave it out"),
        ("detection", ("--quantize", "int8", "--calibration", "digits"), "quantize: 'int8' is not allowed; for class"),
        ("detection", ("--nms", "--batch-size", "2"), "batch_size: 2 is not allowed; 1 with --nms"),
    ],
)
def test_what_is_for_others(task, options, words, recorded, tmp_path, capsys):  # noqa: PLR0917
    run = ["--run", recorded[1][task], "--runs", str(recorded[0]), "--output", str(tmp_path / "net.onnx")]
    with pytest.raises(SystemExit) as ended:
        console(["export", *run, *options])
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert not [*tmp_path.iterdir()]
