"""Int8 files: their weights, ranges and outputs against arithmetic of our own, and equalization against its algebra."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec
from mobileone_core.onnx import int8
from mobileone_core.onnx.export import export_onnx
from mobileone_core.onnx.int8 import OnnxNetwork, layer_ranges, quantize_onnx
from mobileone_core.onnx.quantize import SimulatedInt8, equalize
from mobileone_core.onnx.scheme import Quantization
from mobileone_core.training.quantized import calibration_batches

IMAGES = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def network(**changes):
    torch.manual_seed(0)
    spec = ModelSpec(widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), k=2, stem_stride=1).changed(**changes)
    model = build_model(spec, 5)
    calibrate(model, [IMAGES])
    return reparameterize(model)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    export_onnx(network(), IMAGES[:2], path, any_batch=True)
    return path


SCHEMES = [
    Quantization("full"),
    Quantization("full", "channel"),
    Quantization("full", calibration="percentile"),
    Quantization("weights"),
    Quantization("weights", "channel"),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["tensor", "channel", "percentile", "weights", "weights-channel"])
def test_onnx_runtime_torch_and_the_standards_reference_agree(float_file, tmp_path, scheme):
    path = tmp_path / "int8.onnx"
    quantize_onnx(float_file, path, scheme, IMAGES.split(8))
    reference = SimulatedInt8(path)(IMAGES)
    expected = ReferenceEvaluator(str(path)).run(None, {"images": IMAGES.numpy()})[0]
    step = float((expected.max() - expected.min()) / 255)  # outputs are quantized as well
    assert np.abs(reference.numpy() - expected).max() <= 1.01 * step
    assert (OnnxNetwork(path)(IMAGES) - reference).abs().max() <= 2.01 * step
    assert (reference - network()(IMAGES)).norm() < 0.2 * reference.norm()
    assert path.stat().st_size < float_file.stat().st_size


def test_the_steps_of_weights_are_those_of_the_textbook(float_file, tmp_path):
    path, deployed = tmp_path / "int8.onnx", network()
    for granularity in ("tensor", "channel"):
        quantize_onnx(float_file, path, Quantization("full", granularity), IMAGES.split(8))
        arrays = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
        weight = deployed.stem.reparam_conv.weight.detach().numpy()
        largest = np.abs(weight).max(axis=(1, 2, 3) if granularity == "channel" else None)
        scale = arrays["stem.reparam_conv.weight_scale"]
        np.testing.assert_allclose(scale, largest / (63 if int8.reduces_range() else 127), rtol=0.01)
    ranges = layer_ranges(path, deployed)
    assert len(ranges) == 10
    assert ranges[0]["weight"] == pytest.approx(np.abs(weight).max())
    assert ranges[0]["channel"] == pytest.approx(np.median(np.abs(weight).max(axis=(1, 2, 3))))
    assert ranges[0]["input"] == pytest.approx(float(IMAGES.max() - IMAGES.min()), rel=1e-3)


def test_weights_of_another_network_are_refused(float_file, tmp_path):
    quantize_onnx(float_file, tmp_path / "int8.onnx", Quantization("weights"), ())
    other = network()
    with torch.no_grad():
        other.stem.reparam_conv.weight += 0.1
    with pytest.raises(InputError, match=r"steps from the network's, allowed 0\.5"):
        layer_ranges(tmp_path / "int8.onnx", other)


@pytest.mark.parametrize("flags", ["flags: sse4_2 avx2", "flags: avx512_vnni", "flags: avx_vnni"])
def test_seven_bits_without_vnni_alone(float_file, tmp_path, monkeypatch, flags):
    int8.reduces_range.cache_clear()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: flags)
    bits = 8 if "vnni" in flags else 7
    assert int8.reduces_range() == (bits == 7)
    monkeypatch.undo()
    for scheme in (Quantization("weights"), Quantization("full")):
        quantize_onnx(float_file, tmp_path / "int8.onnx", scheme, IMAGES.split(8))
        model = onnx.load(tmp_path / "int8.onnx")
        weights = [
            onnx.numpy_helper.to_array(item) for item in model.graph.initializer if "weight_quantized" in item.name
        ]
        assert max(int(np.abs(item.astype(int)).max()) for item in weights) in ((127,) if bits == 8 else (63, 64))
    int8.reduces_range.cache_clear()


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_equalization_changes_ranges_and_no_output(seed):
    deployed = network()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # ranges that differ by factors of a hundred
        for block in (deployed.stem, deployed.stages[1][0]):
            block.reparam_conv.weight *= 10 ** (2 * torch.rand(8, 1, 1, 1, generator=generator) - 1)
    equal = equalize(deployed)
    torch.testing.assert_close(equal(IMAGES), deployed(IMAGES), rtol=1e-3, atol=1e-4)
    depthwise, pointwise = (block.reparam_conv.weight for block in equal.stages[0][:2])
    out, inward = depthwise.abs().amax((1, 2, 3)), pointwise.abs().amax((0, 2, 3))
    torch.testing.assert_close(out, inward, rtol=1e-2, atol=0)


@pytest.mark.parametrize(("changes", "named"), [({"activation": "silu"}, "silu"), ({"se": "all"}, "SE")])
def test_equalization_refuses_what_does_not_commute_with_a_scale(changes, named):
    with pytest.raises(InputError, match=named):
        equalize(network(**changes))


def test_fields_without_effect_do_not_make_another_cell():
    assert Quantization("weights", images=3, calibration="entropy") == Quantization("weights")
    assert Quantization("none", "channel", equalize=True) == Quantization()
    with pytest.raises(InputError, match="images"):
        Quantization("full", images=0)


def test_calibration_images_that_do_not_serve_are_refused():
    batches = [(IMAGES[:8], None), (IMAGES[8:16], None)]
    assert torch.equal(torch.cat(list(calibration_batches(batches, 11))), IMAGES[:11])
    with pytest.raises(InputError, match="images: 17 is not allowed; at most the 16"):
        list(calibration_batches(batches, 17))
    with pytest.raises(InputError, match="one colour"):
        list(calibration_batches([(torch.tensor([0.5, -1, 2]).view(1, 3, 1, 1).expand(4, 3, 8, 8), None)], 4))


@pytest.mark.slow
def test_an_operator_without_reference_is_named(tmp_path):
    path = tmp_path / "dynamic.onnx"
    export_onnx(network(activation="dynamic_relu_a"), IMAGES[:2], path)
    with pytest.raises(InputError, match="no reference for its operator"):
        SimulatedInt8(path)
