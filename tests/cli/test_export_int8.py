"""`mobileone export --quantize int8`: verified files, top-1 before and after, and calibration sets that are refused."""

import json
from types import SimpleNamespace

import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from mobileone_core.cli import console
from mobileone_core.cli.commands.export import CalibrationData
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.program import read_program
from mobileone_core.coreml.verify import NotVerifiedError, match_weights
from mobileone_core.data.classes import imagenet_labels
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.evaluate import read_network

SPEC = ModelSpec.preset("tiny", in_channels=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = build_model(SPEC, 10)
    calibrate(network, [torch.randn(8, 1, 32, 32)])
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


def exported(weights, capsys, *more):
    given = ["--variant", "tiny", "--weights", weights, "--data", "digits", "--quantize", "int8", *more]
    with pytest.raises(SystemExit) as ended:
        console(["export", *map(str, given)])
    output = capsys.readouterr()
    return ended.value.code, output.out, output.err


@pytest.mark.slow
def test_an_int8_onnx_file_is_verified_and_smaller(weights, tmp_path, capsys):
    output = tmp_path / "tiny.onnx"
    code, out, err = exported(weights, capsys, "--output", output, "--calibration", "digits")
    assert (code, err) == (0, "")
    assert "12 arrays are the network's, within half a step" in out
    assert "% in int8 (451 test images, digits)" in out
    manifest = json.loads((tmp_path / "tiny.onnx.json").read_text())
    assert manifest["metadata"]["mobileone.quantize"] == "int8"
    assert manifest["verified"]["census"]["DequantizeLinear"] > 24
    images = torch.randn(5, 1, 32, 32).numpy()
    assert onnxruntime.InferenceSession(output).run(["logits"], {"images": images})[0].shape == (5, 10)


@pytest.mark.slow
def test_int8_weights_of_core_ml_are_within_half_a_step(weights, tmp_path, capsys):
    output = tmp_path / "tiny.mlpackage"
    code, out, err = exported(weights, capsys, "--output", output, "--calibration", "digits")
    assert (code, err) == (0, "")
    assert "24 arrays are the network's, within half a step" in out
    assert "% in int8 (451 test images, digits)" in out
    network, program = read_network(SPEC, read_weights(weights), "deployed"), read_program(output)
    assert match_weights(program, network, Options(32, int8=True)) == 24
    with pytest.raises(NotVerifiedError, match="differ from the network's"):
        match_weights(program, network, Options(32))
    with torch.no_grad():
        network.stem.reparam_conv.weight[0, 0, 0, 0] += 0.1 * network.stem.reparam_conv.weight[0].abs().max()
    with pytest.raises(NotVerifiedError, match="steps from the network's"):
        match_weights(program, network, Options(32, int8=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "calibration: '' is not allowed; a directory or data set with --quantize"),
        (("--calibration", "nowhere"), "calibration: 'nowhere' is not allowed; an existing directory"),
        (("--calibration", "cifar10"), "calibration: 'cifar10' is not allowed; cifar10=DIR"),
        (("--calibration", "digits", "--calibration-images", "9999"), "images: 9999 is not allowed; at most the"),
        (("--calibration", "digits", "--batch-size", "2"), "batch_size: 2 is not allowed; left out with --quantize"),
        (("--calibration", "digits", "--precision", "float16"), "precision: 'float16' is not allowed; float32"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(weights, tmp_path, capsys, more, message):
    code, _, err = exported(weights, capsys, "--output", tmp_path / "tiny.onnx", *more)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_calibration_images_are_of_the_networks_classes(tmp_path):
    """ImageNet's folders are WordNet ids, its classes have English names."""
    numbers = [tmp_path / split / f"n{number:08d}" for split in ("train", "val") for number in range(1000)]
    for folder in numbers:
        folder.mkdir(parents=True)
    options = SimpleNamespace(calibration=f"imagenet={tmp_path}", calibration_images=4)
    spec = ModelSpec.preset("s0")
    source = SimpleNamespace(network=SimpleNamespace(spec=spec, num_classes=1000), class_names=imagenet_labels())
    assert CalibrationData(options, source, Preprocessing.of(DataSpec("imagenet", 64, 1000, 3))).data.image_size == 64
    source = SimpleNamespace(network=SimpleNamespace(spec=SPEC, num_classes=10), class_names=tuple("abcdefghij"))
    options = SimpleNamespace(calibration="digits", calibration_images=4)
    with pytest.raises(InputError, match="calibration: 'digits' is not allowed; images of 1 channels"):
        CalibrationData(options, source, Preprocessing.of(DataSpec()))
