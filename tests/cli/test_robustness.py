"""`mobileone evaluate --robustness` on miniatures of the published sets in their layout; timm's lists decide."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm.data
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import save_file

from mobileone_core.cli import console
from mobileone_core.data.robustness import ALEXNET_ERRORS, SETS, corruption_metrics, robustness_classes
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.spec import ModelSpec

INFO = timm.data.ImageNetInfo()
IDS = [INFO.index_to_label_name(number) for number in range(1000)]
PIXELS = 32


def synsets(name):
    """The WordNet ids and class numbers of a set, as timm's wheel has them."""
    folder = Path(timm.data.imagenet_info.__file__).parent / "_info"
    ids = (folder / f"{name}_synsets.txt").read_text().split()
    numbers = list(map(int, (folder / f"{name}_indices.txt").read_text().split()))
    assert [INFO.index_to_label_name(number) for number in numbers] == ids
    return ids, numbers


def write(root, ids, shade=0):
    """One picture per class, in a colour of its own, lying on its side by EXIF, which published numbers ignore."""
    for name in ids:
        number = IDS.index(name)
        (root / name).mkdir(parents=True)
        pixels = np.zeros((40, 40, 3), dtype=np.uint8)
        pixels[:20] = number % 256, number // 4 % 256, (shade + number * 7) % 256
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(pixels).save(root / name / "0.png", exif=exif)
    return root


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_model(ModelSpec.preset("tiny", k=1), 1000)
    calibrate(network, [torch.randn(16, 3, PIXELS, PIXELS)])
    with torch.no_grad():
        network.head.fc.weight.mul_(20)
    return network.eval()


@pytest.fixture
def evaluated(network, tmp_path, capsys):
    """Runs the command: its status, what it prints, and the metrics and tags of its run."""
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    usual = ["--variant", "tiny", "--k", "1", "--weights", str(tmp_path / "net.safetensors"), "--threads", "1"]

    def run(name, root, *more):
        given = ["--robustness", name, "--data-root", str(root), "--runs", str(tmp_path / "runs"), *usual, *more]
        with pytest.raises(SystemExit) as ended:
            console(["evaluate", *given])
        shown = capsys.readouterr()
        if ended.value.code:
            return ended.value.code, shown.err, None
        client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("evaluate")
        latest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
        return 0, shown.out, latest.data

    return run


def logits_of(network, root, ids, crop):
    """The logits of the first picture of every class, read without EXIF."""
    transform = timm.data.create_transform(PIXELS, interpolation="bilinear", crop_pct=crop)
    images = [transform(Image.open(root / name / "0.png").convert("RGB")) for name in ids]
    with torch.inference_mode():
        return network(torch.stack(images))


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_folders_give_the_200_classes_of_timms_lists(name, tmp_path):
    ids, numbers = synsets(name)
    for item in ids:
        (tmp_path / item).mkdir()
    classes, present = robustness_classes(tmp_path, ())
    assert sorted(numbers) == list(present)
    assert [classes[number] for number in numbers] == ids


@pytest.mark.slow
def test_imagenet_a_is_decided_among_its_classes(network, evaluated, tmp_path, monkeypatch):
    ids, numbers = synsets("imagenet_a")
    root = write(tmp_path / "imagenet-a", ids)
    logits, targets = logits_of(network, root, ids, 0.875), torch.tensor(numbers)
    restricted = logits[:, numbers].argmax(1)
    code, out, data = evaluated("imagenet-a", tmp_path, "--image-size", str(PIXELS))
    assert code == 0
    assert data.tags["data"] == "part of imagenet-a"
    assert data.metrics["test/subset_top1"] == pytest.approx((restricted == torch.arange(200)).float().mean().item())
    assert data.metrics["test/top1"] == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    assert "among the 200 present: top-1" in out
    monkeypatch.setitem(SETS, "imagenet-a", (200, 200, 1))
    code, out, data = evaluated("imagenet-a", root, "--image-size", str(PIXELS))
    assert (code, data.tags["data"], data.tags["present"]) == (0, "imagenet-a", "200")


@pytest.mark.slow
def test_imagenet_c_is_the_mean_over_corruptions_relative_to_alexnet(network, evaluated, tmp_path, monkeypatch):
    """Here of two corruptions: of one severity too few nothing is given, else the mean, read without a crop."""
    alexnet = {name: ALEXNET_ERRORS[name] for name in ("fog", "snow")}
    for name in ALEXNET_ERRORS.keys() - alexnet.keys():
        monkeypatch.delitem(ALEXNET_ERRORS, name)
    monkeypatch.setitem(SETS, "imagenet-c", (5, 5, 10))
    ids, expected, root = IDS[:50:10], {}, tmp_path / "imagenet-c"
    for name in alexnet:
        for severity in range(1, 6):
            folder = write(root / name / str(severity), ids, 40 * severity + len(name))
            answers = logits_of(network, folder, ids, 1.0).argmax(1)
            expected[name, severity] = (answers != torch.tensor(range(0, 50, 10))).double().mean().item()
    code, out, data = evaluated("imagenet-c", root.parent, "--image-size", str(PIXELS))
    assert (code, data.tags["data"], data.tags["crop"]) == (0, "imagenet-c", "none")
    for (name, severity), error in expected.items():
        assert data.metrics[f"test/{name}_{severity}_error"] == pytest.approx(error)
    relative = [sum(expected[name, item] for item in range(1, 6)) / 5 / alexnet[name] for name in alexnet]
    assert data.metrics["test/mce"] == pytest.approx(sum(relative) / 2)
    assert f"mCE: the mean of CE) {100 * sum(relative) / 2:.2f} %" in out
    shutil.rmtree(root / "snow" / "3")
    code, out, data = evaluated("imagenet-c", root, "--image-size", str(PIXELS))
    assert (code, data.tags["data"]) == (0, "part of imagenet-c")
    assert not {"test/mce", "test/mean_error", "test/snow_ce"} & data.metrics.keys()
    assert data.metrics["test/fog_ce"] == pytest.approx(relative[0])
    assert "give a mean corruption error" in out


def test_the_mean_corruption_error_divides_every_corruption_by_alexnets():
    """compute_mce of AugMix, worked out here: 100 x the mean over corruptions of mean error over AlexNet's."""
    random = np.random.default_rng(0)
    errors = {(name, severity): random.uniform() for name in ALEXNET_ERRORS for severity in range(1, 6)}
    metrics = corruption_metrics(errors, is_whole=True)
    table = np.array([[errors[name, severity] for severity in range(1, 6)] for name in ALEXNET_ERRORS])
    relative = table.mean(1) / np.array(list(ALEXNET_ERRORS.values()))
    assert metrics["test/mce"] == pytest.approx(relative.mean())
    assert metrics["test/mean_error"] == pytest.approx(table.mean())
    assert metrics["test/fog_ce"] == pytest.approx(relative[list(ALEXNET_ERRORS).index("fog")])
    perfect = corruption_metrics({key: ALEXNET_ERRORS[key[0]] for key in errors}, is_whole=True)
    assert perfect["test/mce"] == pytest.approx(1)  # AlexNet itself
    part = corruption_metrics({("fog", 1): 0.5, ("snow", 1): 0.1}, is_whole=False)
    assert part == {"test/fog_1_error": 0.5, "test/snow_1_error": 0.1}


def test_networks_of_other_classes_are_refused(evaluated, tmp_path):
    write(tmp_path / "set", IDS[:2])
    save_file(build_model(ModelSpec.preset("tiny", k=1), 10).state_dict(), tmp_path / "ten.safetensors")
    code, err, _ = evaluated("imagenet-a", tmp_path / "set", "--weights", str(tmp_path / "ten.safetensors"))
    assert code == 2
    assert (
        "robustness: 'imagenet-a' is not allowed; for RGB images of ImageNet's 1000 classes; the network has 10" in err
    )


@pytest.mark.parametrize(
    ("name", "folders", "more", "words"),
    [
        ("imagenet-a", ("cat", "dog"), (), ("data_root", "cat, dog", "n01440764")),
        ("imagenet-a", ("n01440764", "n00000000"), (), ("n00000000", "1000")),
        ("imagenet-r", ("n01440764",), (), ("data_root", "two or more")),
        ("imagenet-sketch", (), (), ("data_root", "no folder")),
        ("imagenet-c", ("n01440764", "n01443537"), (), ("data_root", "CORRUPTION/SEVERITY")),
        ("imagenet-c", (), ("--crop", "0.9"), ("crop", "0.9", "--robustness imagenet-c decides it")),
        ("imagenet-a", (), ("--data", "imagenet"), ("data", "leave it out")),
        ("imagenet-a", (), ("--split", "val"), ("split", "'val'", "leave it out")),
    ],
)
def test_what_is_no_such_set_is_refused_in_one_line(name, folders, more, words, evaluated, tmp_path):  # noqa: PLR0917
    root = tmp_path / "set"
    root.mkdir()
    for folder in folders:
        (root / folder).mkdir()
    code, err, _ = evaluated(name, root, *more)
    assert (code, len(err.splitlines())) == (2, 1)
    for word in words:
        assert word in err
    assert not (tmp_path / "runs").exists()
