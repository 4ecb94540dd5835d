"""`mobileone predict` and `evaluate --run`: a run's network on pictures, its own data, and folders of other classes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

from mobileone_core import ModelSpec, build_model, load_run
from mobileone_core.cli import console
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.classes import imagenet_labels, network_classes, read_class_map
from mobileone_core.data.sets import load_scans
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.network import calibrate
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec

TINY = ModelSpec.preset("tiny", k=1)
DIGITS = CellSpec(TINY.changed(in_channels=1), DataSpec(image_size=16), seed=3)


def ran(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        console(list(map(str, arguments)))
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def write_folder(root, classes, split="val", count=2):
    """Pictures whose colour is that of their class, 40 x 50 px."""
    for label, name in enumerate(classes):
        (root / split / name).mkdir(parents=True)
        for number in range(count):
            random = np.random.default_rng([label, number])
            pixels = random.integers(0, 60, (40, 50, 3)) + np.array([80 * (label % 3), 60 * (label // 3), 90])
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def recorded(record_cell, tmp_path_factory):
    """A record of two runs, on digits and on a folder of classes, and the folder."""
    root = tmp_path_factory.mktemp("pets")
    for split in ("train", "val"):
        write_folder(root, ("ant", "bee", "cat"), split)
    workspace = Workspace.at(tmp_path_factory.mktemp("runs"))
    cell = CellSpec(TINY, resolve_data("folder", root, 32))
    return workspace.runs, record_cell(workspace, DIGITS), record_cell(workspace, cell, root), root


def test_predict_prints_the_classes_that_the_network_gives(recorded, tmp_path, capsys):
    runs, digits, _, _ = recorded
    scans, _ = load_scans()
    (tmp_path / "more").mkdir()
    for number in range(3):
        Image.fromarray(scans[number, 0].numpy()).save(tmp_path / ("more" if number else ".") / f"{number}.png")
    (tmp_path / "more" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(tmp_path / "0.png", tmp_path / "\x1b[2J.png")
    assert r"\x1b[2J.png" in ran(capsys, "predict", tmp_path / "\x1b[2J.png", "--run", digits, "--runs", runs)[1]
    given = (tmp_path / "0.png", tmp_path / "more", "--run", digits[:10], "--runs", runs)
    code, out, err = ran(capsys, "predict", *given)
    assert code == 2  # after all others
    assert err.count("\n") == 1
    assert str(tmp_path / "more" / "broken.jpg") in err
    model = load_run(digits, runs=runs)
    lines = iter(out.splitlines())
    for path in (tmp_path / "0.png", tmp_path / "more" / "1.png", tmp_path / "more" / "2.png"):
        with torch.inference_mode():
            values, numbers = model(model.transform(Image.open(path))[None])[0].softmax(0).topk(5)
        assert next(lines) == str(path)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            shown, name = next(lines).split(" %  ")
            assert (float(shown), name) == (pytest.approx(100 * value, abs=0.006), model.class_names[number])
    assert next(lines, None) is None
    code, out, _ = ran(capsys, "predict", tmp_path / "0.png", "--run", digits, "--runs", runs, "--json", "--top", 2)
    assert code == 0
    assert len(json.loads(out)["classes"]) == 2


def test_predict_turns_a_picture_as_its_exif_says(recorded, tmp_path, capsys):
    runs, _, pets, _ = recorded
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    upright, lying = Image.fromarray(pixels), Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    upright.save(tmp_path / "upright.png")
    lying.save(tmp_path / "lying.png", exif=exif)
    pictures = tmp_path / "upright.png", tmp_path / "lying.png"
    code, out, _ = ran(capsys, "predict", *pictures, "--run", pets, "--runs", runs)
    first, second = out.split(str(tmp_path / "lying.png"))
    assert code == 0
    assert first.splitlines()[1:] == second.splitlines()[1:]


def test_predict_reads_a_file_that_names_its_network(recorded, tmp_path, capsys):
    runs, _, pets, root = recorded
    [weights] = runs.glob(f"artifacts/*/{pets}/artifacts/weights.safetensors")
    picture = root / "val" / "ant" / "0.png"
    by_run = ran(capsys, "predict", picture, "--run", pets, "--runs", runs)
    code, out, _ = ran(capsys, "predict", picture, "--weights", weights)
    assert (code, out.splitlines()[-4:]) == (0, by_run[1].splitlines())


@pytest.mark.slow
def test_raw_weights_of_a_run_are_reached(recorded, tmp_path, capsys):
    """Averaged weights are a run's final ones; the last ones, next to them, give other probabilities."""
    runs, digits, _, _ = recorded
    [weights] = runs.glob(f"artifacts/*/{digits}/artifacts/weights.safetensors")
    raw = load_file(weights)
    raw["head.fc.bias"] = torch.linspace(0, 1, 10)
    save_file(raw, weights.with_name("weights_raw.safetensors"))
    Image.fromarray(load_scans()[0][0, 0].numpy()).save(tmp_path / "0.png")
    given = (tmp_path / "0.png", "--run", digits, "--runs", runs, "--json", "--top", 10, "--which")
    answers = [json.loads(ran(capsys, "predict", *given, which)[1]) for which in ("auto", "ema", "model")]
    assert answers[0] == answers[1] != answers[2]
    model = load_run(digits, runs=runs, which="model")
    with torch.inference_mode():
        expected = model(model.transform(Image.open(tmp_path / "0.png"))[None])[0].softmax(0).max()
    assert answers[2]["classes"][0]["probability"] == pytest.approx(expected.item())
    output = tmp_path / "raw.onnx"
    code, _, err = ran(capsys, "export", "--run", digits, "--runs", runs, "--which", "model", "--output", output)
    assert code == 0, err
    manifest = tmp_path / "raw.onnx.json"
    assert "mobileone.test/top1" not in json.loads(manifest.read_text())["metadata"]  # that is the averaged network's
    output.unlink()
    before = manifest.read_bytes()
    code, _, err = ran(capsys, "export", "--run", digits, "--runs", runs, "--output", output)
    assert (code, f"'{manifest}' is not allowed; it exists" in err, output.exists()) == (2, True, False)
    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("images",)),
        (("x.png",), ("--run ID, or --weights FILE",)),
        (("x.png", "--weights", "nothing.pth"), ("weights", "nothing.pth")),
        (("x.png", "--run", "ab", "--variant", "s0"), ("run", "variant", "leave it out")),
        (("x.png", "--run", "ab", "--data", "digits"), ("run", "data", "leave it out")),
        (("x.png", "--run", "ab", "--which", "raw"), ("which", "'raw'", "auto, ema, model")),
        (("x.png", "--run", "zz"), ("run", "'zz'")),
        (("x.png", "--run", "ab", "--top", "0"), ("top", "0")),
    ],
    ids=" ".join,
)
def test_what_cannot_be_predicted_is_refused(arguments, words, recorded, capsys):
    code, _, err = ran(capsys, "predict", *arguments, *(("--runs", recorded[0]) if "zz" in arguments else ()))
    assert code == 2
    for word in words:
        assert word in err


def evaluated(capsys, runs, *arguments):
    code, out, err = ran(capsys, "evaluate", *arguments, "--runs", runs, "--threads", 1)
    assert code == 0, err
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    number = client.get_experiment_by_name("evaluate").experiment_id
    return client.search_runs([number], order_by=["attributes.start_time DESC"])[0].data, out, err, client


@pytest.mark.slow
def test_validation_images_are_those_of_the_run(record_cell, recorded, tmp_path, capsys):
    workspace = Workspace.at(tmp_path / "runs")
    workspace.runs.mkdir()
    run = record_cell(workspace, replace(DIGITS, data=replace(DIGITS.data, val_fraction=0.3)))
    data, *_ = evaluated(capsys, workspace.runs, "--run", run, "--split", "val")
    assert data.metrics["val/images"] == pytest.approx(0.3 * 1346, abs=10)
    runs, _, pets, root = recorded
    grown = tmp_path / "grown"
    shutil.copytree(root, grown)
    picture = next(grown.rglob("train/*/*"))
    shutil.copy(picture, picture.with_name(f"more-{picture.name}"))
    changed = ("--run", pets, "--split", "val", "--data-root", grown, "--runs", runs)
    code, _, err = ran(capsys, "evaluate", *changed)
    assert (code, "images that the run was trained on" in err) == (2, True)


@pytest.mark.parametrize("which", [1, 2], ids=["digits", "folder"])
def test_a_run_is_evaluated_on_its_data_as_recorded(which, recorded, capsys):
    runs, root, run = recorded[0], recorded[3], recorded[which]
    data, _, err, client = evaluated(capsys, runs, "--run", run[:8])
    before = client.get_run(run).data.metrics
    assert data.metrics["test/top1"] == before["test/top1"]
    assert data.metrics["test/loss"] == pytest.approx(before["test/loss"], rel=1e-5)
    assert (data.tags["evaluated_run"], err) == (run, "")
    mark = resolve_data("folder", root, test_only=True).fingerprint[:6]
    assert data.tags["data"] == ("digits" if which == 1 else f"folder:{root.name} {mark}")


@pytest.mark.parametrize("described", [(), ("--variant", "tiny", "--k", 1)], ids=["file", "variant"])
def test_a_runs_file_is_read_as_it_was_trained_on_a_folder_that_is_named(described, recorded, tmp_path, capsys):
    """At the run's 32 px, for which tiny has other strides than for the 224 of image folders, and with its classes."""
    runs, _, pets, root = recorded
    [weights] = runs.glob(f"artifacts/*/{pets}/artifacts/weights.safetensors")
    own = ("--weights", weights, "--data", "folder", *described)
    data, _, err, client = evaluated(capsys, runs, *own, "--data-root", root)
    assert data.metrics["test/loss"] == pytest.approx(client.get_run(pets).data.metrics["test/loss"], rel=1e-5)
    assert (data.tags["image_size"], err) == ("32", "")
    picture = root / "val" / "ant" / "0.png"
    by_run = ran(capsys, "predict", picture, "--run", pets, "--runs", runs)
    assert ran(capsys, "predict", picture, *own)[1].splitlines()[-4:] == by_run[1].splitlines()


def test_another_resolution_is_said(recorded, capsys):
    _, _, err, _ = evaluated(capsys, recorded[0], "--run", recorded[1], "--image-size", 32)
    assert err == "warning: weights trained at 16 px are evaluated at 32 px\n"


def test_another_folder_is_matched_by_the_names_of_classes(recorded, tmp_path, capsys):
    runs, _, pets, root = recorded
    other = write_folder(tmp_path / "other", ("bee", "Cat"))
    data, out, _, _ = evaluated(capsys, runs, "--run", pets, "--data", "folder", "--data-root", other)
    model = load_run(pets, runs=runs)
    logits, labels = [], []
    for name, label in (("bee", 1), ("Cat", 2)):
        for path in sorted((other / "val" / name).iterdir()):
            with torch.inference_mode():
                logits.append(model(model.transform(Image.open(path))[None])[0])
            labels.append(label)
    logits, labels = torch.stack(logits), torch.tensor(labels)
    assert data.metrics["test/top1"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    among = logits[:, 1:].argmax(1) + 1 == labels
    assert data.metrics["test/subset_top1"] == pytest.approx(among.float().mean().item())
    assert "over all 3: top-1" in out
    assert "among the 2 present: top-1" in out
    assert (data.tags["classes"], data.tags["present"]) == ("3", "2")
    stranger = write_folder(tmp_path / "stranger", ("bee", "dog"))
    code, _, err = ran(capsys, "evaluate", "--run", pets, "--data", "folder", "--data-root", stranger, "--runs", runs)
    assert (code, "'dog'" in err, "ant, bee, cat" in err, "--class-map" in err) == (2, True, True, True)
    (tmp_path / "map.csv").write_bytes("\ufeffdog,ant\r\n".encode())
    mapped = ("--data-root", stranger, "--class-map", tmp_path / "map.csv")
    data, *_ = evaluated(capsys, runs, "--run", pets, "--data", "folder", *mapped)
    assert data.tags["present"] == "2"
    assert root.is_dir()


@pytest.mark.slow
def test_folders_of_some_of_imagenets_classes(tmp_path, capsys):
    torch.manual_seed(0)
    network = build_model(TINY, 1000)
    calibrate(network, [torch.randn(16, 3, 32, 32)])
    with torch.no_grad():
        network.head.fc.bias[1] += 1000  # goldfish, of two classes present
        network.head.fc.bias[5] += 2000  # electric ray, which has no folder
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    root = write_folder(tmp_path / "subset", ("n01443537", "n02102040"))
    given = ("--weights", tmp_path / "w.safetensors", "--variant", "tiny", "--k", 1, "--data", "folder")
    data, out, _, _ = evaluated(capsys, tmp_path / "runs", *given, "--data-root", root, "--image-size", 32)
    assert data.metrics["test/top1"] == 0
    assert data.metrics["test/subset_top1"] == 0.5
    assert "over all 1000" in out


def test_names_of_classes_are_matched():
    labels = imagenet_labels()
    assert len(set(labels)) == 1000
    ways = ("n01440764", "n15075141"), ("tench", "toilet_tissue"), ("Tinca tinca", "Toilet tissue"), ("0", "999")
    ways += ("0000", "0999"), ("tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue")
    for folders in ways:
        classes = network_classes(folders, (), 1000, {})
        assert (classes[0], classes[999], len(classes)) == (*folders, 1000)
        known = network_classes(folders, labels, 1000, {})
        assert (known[0], known[1], known[999]) == (folders[0], "goldfish (no folder)", folders[1])
    assert network_classes(("x", "y"), (), 2, {}) == ()
    assert network_classes(("0", "1"), ("1", "0"), 2, {}) == ("1", "0")
    assert network_classes(("a", "b"), ("c", "d"), 2, {"a": "d", "b": "c"}) == ("b", "a")
    for folders, names, count, mapping, words in (
        (("x", "tench"), (), 1000, {}, "'x' is not allowed; one of the network's 1000"),
        (("tench", "n01440764"), (), 1000, {}, "tench is the same"),
        (("a",), (), 3, {}, "whose names are not known"),
        (("x", "y"), (), 1000, {"x": "0", "y": "-1"}, "class: '-1'.*1000: tench, goldfish"),
        ((*labels[1:], "tenhc"), (), 1000, {}, "'tenhc' is not allowed"),  # one name is wrong: not by their order
        (("a", "b"), ("a", "b"), 2, {"z": "a"}, "class_map: 'z'"),
    ):
        with pytest.raises(InputError, match=words):
            network_classes(folders, names, count, mapping)


def test_a_class_map_is_read(tmp_path):
    file = tmp_path / "map.csv"
    file.write_text("dog, n02102040\n\ncat\t281\n")
    assert read_class_map(file) == {"dog": "n02102040", "cat": "281"}
    file.write_text('"a, b","tench, Tinca tinca"\nc,d, e\nc,d, e\n')
    assert read_class_map(file) == {"a, b": "tench, Tinca tinca", "c": "d, e"}
    file.write_text("dog,1\ncat,2\ndog,3\n")
    with pytest.raises(InputError, match="class_map: 'dog' is not allowed; one class per folder"):
        read_class_map(file)
    file.write_text("dog\n")
    with pytest.raises(InputError, match="FOLDER,CLASS"):
        read_class_map(file)
