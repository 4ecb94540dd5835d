"""`mobileone evaluate` on a miniature ImageNet; timm's network and timm's transform say what is right."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform
from timm.utils.model import reparameterize_model

from mobileone_core.cli import console
from mobileone_core.data.spec import IMAGENET_MEAN, IMAGENET_STD
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec
from mobileone_core.model.weights import export_weights, load_weights
from mobileone_core.study.record.access import recorded_plans

COMMAND = (sys.executable, "-c", "from mobileone_core.cli import console; console()", "evaluate")
CLASSES, PIXELS = 1000, 35
USUAL, OTHER = (0.875, "bilinear"), (0.7, "bicubic")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """ImageNet's layout without train/: 1000 classes with one image each in val/, 80 x 64 px."""
    root, random = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for label in range(CLASSES):
        coarse = Image.fromarray(random.integers(256, size=(5, 6, 3), dtype=np.uint8))
        folder = root / "val" / f"n{label:08}"
        folder.mkdir(parents=True)
        coarse.resize((80, 64), Image.Resampling.BICUBIC).save(folder / "0.JPEG")
    return root


def read_images(root, crop, interpolation):
    """The validation images as timm's own evaluation reads them, (1000, 3, S, S)."""
    transform = create_transform(
        PIXELS, interpolation=interpolation, crop_pct=crop, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in sorted(root.glob("val/*/*"))])


@pytest.fixture(scope="module")
def oracle(imagenet):
    """timm's S0 with a head that knows images, and its (top-1, top-5, loss) by how they are read.

    Read as USUAL images 200 to 699 are known, 0 to 99 at second rank; read as OTHER images 700 to 999.
    """
    torch.manual_seed(0)
    network = timm.create_model("mobileone_s0")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    images = {how: read_images(imagenet, *how) for how in (USUAL, OTHER)}
    with torch.no_grad():
        network(images[USUAL][:128])  # statistics of these images
        network.eval()
        features = {how: network.forward_head(network.forward_features(images[how]), pre_logits=True) for how in images}
        known = torch.cat([features[USUAL][:700], features[OTHER][700:]])
        known[100:200] = known[:100]
        network.head.fc.weight.copy_(2 * known)
        network.head.fc.bias.copy_(-known.square().sum(1))  # the nearest of the known images
        network.head.fc.bias[100:200] += 1
        logits = {how: network.head.fc(features[how]) for how in images}
    labels = torch.arange(CLASSES)
    expected = {}
    for how, values in logits.items():
        right = values.topk(5).indices == labels[:, None]
        loss = torch.nn.functional.cross_entropy(values.double(), labels).item()
        expected[how] = (right[:, 0].double().mean().item(), right.any(1).double().mean().item(), loss)
    return network, expected


@pytest.fixture(scope="module")
def files(oracle, tmp_path_factory):
    """The same weights as each code writes them."""
    directory, (network, _) = tmp_path_factory.mktemp("weights"), oracle
    ours = build_model("s0").eval()
    load_weights(ours, network.state_dict())
    save_file(export_weights(ours), directory / "own.safetensors")
    torch.save({"state_dict": export_weights(ours, "apple")}, directory / "apple.pth.tar")
    torch.save(network.state_dict(), directory / "timm.pth")
    torch.save(reparameterize_model(network).state_dict(), directory / "deployed.pth")
    return {path.name.partition(".")[0]: path for path in directory.iterdir()}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """ImageNet's layout without train/ and with empty files, and untrained weights."""
    root = tmp_path_factory.mktemp("fresh")
    for label in range(CLASSES):
        (root / "val" / f"n{label:08}").mkdir(parents=True)
        (root / "val" / f"n{label:08}" / "0.JPEG").touch()
    save_file(export_weights(build_model("s0")), root / "own.safetensors")
    return root, root / "own.safetensors"


def options(imagenet, weights, runs, *more):
    usual = ("--variant", "s0", "--data", "imagenet", "--data-root", imagenet, "--image-size", PIXELS, "--threads", 1)
    return [str(item) for item in ("--weights", weights, *usual, "--runs", runs, *more)]


def evaluated(arguments, capsys):
    """Run the command here; its status and its output."""
    with pytest.raises(SystemExit) as ended:
        console(["evaluate", *arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def recorded(runs):
    """The runs of the experiment, the first one first."""
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("evaluate")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def assert_measured(run, expected):
    """One image in a thousand may lie on a border between two classes."""
    top1, top5, loss = expected
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/top1"] == pytest.approx(top1, abs=1.5 / CLASSES)
    assert run.data.metrics["test/top5"] == pytest.approx(top5, abs=1.5 / CLASSES)
    assert run.data.metrics["test/loss"] == pytest.approx(loss, rel=1e-3)
    assert run.data.metrics["test/images"] == CLASSES
    assert run.data.metrics["time/images_per_second"] > 0


@pytest.mark.slow
def test_the_oracle_tells_readings_and_ranks_apart(oracle):
    usual, other = (oracle[1][how] for how in (USUAL, OTHER))
    assert usual[:2] == pytest.approx((0.5, 0.6), abs=0.02)
    assert other[:2] == pytest.approx((0.3, 0.3), abs=0.03)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A runs directory with the record of all evaluations that go well."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "form"), [("own", "deployed"), ("apple", "file"), ("deployed", "file")])
def test_every_layout_and_form_gives_what_timm_gives(layout, form, imagenet, files, oracle, runs, capsys):  # noqa: PLR0917
    code, out, err = evaluated(options(imagenet, files[layout], runs, "--form", form), capsys)
    assert (code, err) == (0, "")
    run = recorded(runs)[-1]
    assert_measured(run, oracle[1][USUAL])
    assert run.data.tags["form"] == ("train" if layout == "apple" else "deployed")
    head, row = (line.split("  ") for line in out.splitlines() if line.strip().startswith(("variant", "s0")))
    shown = {name.strip(): cell.strip() for name, cell in zip(filter(None, head), filter(None, row), strict=True)}
    assert shown["top-1, %"] == f"{100 * run.data.metrics['test/top1']:.2f}"
    assert shown["top-5, %"] == f"{100 * run.data.metrics['test/top5']:.2f}"
    assert "published top-1, %" not in shown  # of a thousand images, a part of the set
    assert run.info.run_id in out


@pytest.mark.slow
def test_the_whole_path_in_a_process_of_its_own(imagenet, files, oracle, runs):
    """timm's file in train form, with another crop and interpolation."""
    arguments = options(imagenet, files["timm"], runs, "--crop", "0.7", "--interpolation", "bicubic")
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    run = recorded(runs)[-1]
    assert_measured(run, oracle[1][OTHER])
    tags = run.data.tags
    shown = {name: tags[name] for name in ("study", "data", "variant", "weights", "form", "crop", "interpolation")}
    assert shown == {
        "study": "evaluate",
        "data": "imagenet",
        "variant": "s0",
        "weights": "timm.pth",
        "form": "train",
        "crop": "0.7",
        "interpolation": "bicubic",
    }
    assert (tags["image_size"], tags["split"], tags["threads"]) == (str(PIXELS), "test", "1")
    assert {"git", "device", "version.torch"} <= set(tags)
    assert str(imagenet) not in json.dumps(run.data.to_dictionary())
    line = subprocess.run(["sha256sum", files["timm"]], capture_output=True, text=True, check=True).stdout
    assert tags["sha256"] == line.split()[0]


@pytest.fixture
def tiny(tmp_path, runs):
    """The options of a network of ours on digits."""
    weights = tmp_path / "tiny.safetensors"
    save_file(export_weights(build_model(ModelSpec.preset("tiny", in_channels=1), 10)), weights)
    return ["--weights", str(weights), "--variant", "tiny", "--data", "digits", "--runs", str(runs), "--threads", "1"]


@pytest.mark.slow
def test_studies_do_not_see_evaluations(tiny, runs, capsys):
    code, out, err = evaluated([*tiny, "--split", "val"], capsys)
    assert (code, err) == (0, "")
    assert "published" not in out
    run = recorded(runs)[-1]
    assert (run.data.tags["crop"], run.data.tags["split"], run.data.tags["data"]) == ("none", "val", "digits")
    assert "val/top1" in run.data.metrics
    assert "test/top1" not in run.data.metrics
    assert recorded_plans(f"sqlite:///{runs / 'mlflow.db'}") == []
    for command in (["status"], ["status", "--repair"]):
        with pytest.raises(SystemExit) as ended:
            console([*command, "--runs", str(runs)])
        assert ended.value.code == 0
        assert "no study was planned" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--variant", "s1"), ("own.safetensors does not fit the model", "stem.conv_kxk.0.conv.weight")),
        (("--k", "1"), ("own.safetensors does not fit the model", "unexpected")),
        (("--variant", "s9"), ("variant", "'s9'", "s0, s1")),
        (("--weights", "nothing.pth"), ("weights", "nothing.pth", "existing file")),
        (("--weights", __file__), ("test_evaluate.py", "not a readable weight file")),
        (("--data", "images"), ("data", "'images'", "imagenet")),
        (("--data-root", "nowhere"), ("data_root", "nowhere", "existing directory")),
        (("--split", "val"), ("data_root", "no ImageNet", "train/ and val/")),
        (("--data", "digits", "--crop", "0.9"), ("crop", "0.9", "digits is read whole")),
        (("--crop", "1.5"), ("crop", "1.5")),
        (("--batch-size", "0"), ("batch_size", "0")),
        (("--threads", "0"), ("threads", "0")),
        (("--image-size", "0"), ("image_size", "0", "1 or more")),
        (("--device", "tpu"), ("device", "'tpu'")),
    ],
    ids=" ".join,
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(changes, words, fresh, tmp_path, capsys):
    code, _, err = evaluated(options(*fresh, tmp_path / "runs", *changes), capsys)
    assert code == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "runs").exists()


def test_broken_image_fails_the_run(tmp_path, runs, capsys):
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for name in ("0.png", "1.png"):
                Image.new("RGB", (40, 40)).save(tmp_path / split / label / name)
    broken = tmp_path / "val" / "dog" / "1.png"
    broken.write_bytes(b"no image")
    torch.save(build_model("tiny", 2).state_dict(), tmp_path / "tiny.pth")
    given = ("--variant", "tiny", "--data", "folder", "--data-root", tmp_path, "--threads", 1, "--batch-size", 1)
    code, _, err = evaluated(
        [str(item) for item in ("--weights", tmp_path / "tiny.pth", *given, "--runs", runs)], capsys
    )
    assert code == 2
    assert str(broken) in err
    run = recorded(runs)[-1]
    assert (run.info.status, run.data.metrics) == ("FAILED", {})
    assert str(broken) in run.data.tags["error"]


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_the_run_of_a_killed_process_is_ended_by_the_next(imagenet, files, runs):
    arguments = options(imagenet, files["own"], runs, "--image-size", "224", "--batch-size", "1")
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert any("1000 images to read" in line for line in iter(process.stdout.readline, ""))
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == status
        assert err == ("" if number == signal.SIGKILL else "interrupted\n")
        assert recorded(runs)[-1].info.status == ("RUNNING" if number == signal.SIGKILL else "KILLED")
    assert [run.info.status for run in recorded(runs)[-2:]] == ["KILLED", "KILLED"]


def test_timm_reads_the_released_weights_as_the_help_says(capsys):
    with pytest.raises(SystemExit):
        console(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    settings = [timm.get_pretrained_cfg(f"mobileone_s{number}") for number in range(5)]
    assert [item.crop_pct for item in settings] == [0.875, 0.9, 0.9, 0.9, 0.9]
    assert {item.interpolation for item in settings} == {"bilinear"}
    assert "0.875 for s0, 0.9 for s1 to s4, all bilinear at 224 px" in text


def test_help_and_refusals_import_nothing_heavy():
    code = (
        "import sys; from mobileone_core.cli import console\n"
        "for line in (['--help'], ['--weights', 'x', '--variant', 's0', '--data', 'digits']):\n"
        "    try: console(['evaluate', *line])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'optuna', 'mlflow', 'pandas', 'seaborn', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
