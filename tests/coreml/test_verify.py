"""The exported program is the network, and every mistake that a converter could make is found."""

import shutil

import pytest
import torch

from mobileone_core.coreml.convert import convert, save
from mobileone_core.coreml.export import export_package
from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.coreml.package import MODEL, WEIGHTS, package_hash
from mobileone_core.coreml.program import read_spec
from mobileone_core.coreml.verify import TOLERANCE, NotVerifiedError, expected_census, verify
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ACTIVATIONS, ModelSpec

PIXELS = Pixels((0.5, 0.4, 0.3), (0.2, 0.3, 0.25), tuple(f"class {number}" for number in range(10)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_with_se(activation, precision, deployed, tmp_path):
    network = deployed(activation=activation, se=(0, 1), widths=(8, 16), depths=(1, 1), stage_strides=(2, 1))
    found = export_package(network, tmp_path / "a.mlpackage", Options(32, precision), {}).verification
    assert found.error <= TOLERANCE
    assert found.weights == len(list(network.parameters()))
    assert (found.half_difference is None) == (precision == "float32")


@pytest.mark.slow
@pytest.mark.parametrize("se", ["all", (0, 1, 1, 0)])
def test_placements_of_se(se, deployed, tmp_path):
    found = export_package(deployed(se=se), tmp_path / "a.mlpackage", Options(32, "float32"), {}).verification
    assert found.census.get("sigmoid", 0) == (10 if se == "all" else 4)
    assert "add" not in found.census
    assert "batch_norm" not in found.census


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["s0", "s4"])
def test_variants(variant, deployed, tmp_path):
    """The narrowest and the widest, which alone has SE: those between them differ in nothing but their widths."""
    network = deployed(variant, classes=1000, pixels=32)
    for precision in ("float16", "float32"):
        found = export_package(network, tmp_path / "a.mlpackage", Options(32, precision), {}).verification
        assert found.error <= TOLERANCE


def test_census_of_the_paper_s_variants():
    s0, s4 = (expected_census(ModelSpec.preset(name), Options(224)) for name in ("s0", "s4"))
    assert s0 == {"conv": 43, "relu": 43, "reduce_mean": 1, "reshape": 1, "linear": 1}
    assert (s4["conv"], s4["relu"], s4["sigmoid"], s4["mul"]) == (67, 55, 12, 12)


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.slow
def test_image_input_normalizes_inside_and_names_the_class(precision, deployed, tmp_path):
    found = export_package(deployed(), tmp_path / "a.mlpackage", Options(32, precision, PIXELS), {}).verification
    assert found.error <= TOLERANCE
    description = read_spec(tmp_path / "a.mlpackage").description
    assert description.input[0].type.WhichOneof("Type") == "imageType"
    assert [item.name for item in description.output] == ["classLabel", "classLabel_probs"]


@pytest.mark.slow
def test_the_same_network_gives_the_same_hash(deployed, tmp_path):
    hashes = {export_package(deployed(), tmp_path / f"{n}.mlpackage", Options(32), {"a": "b"}).hash for n in "ab"}
    other = export_package(deployed(k=1), tmp_path / "c.mlpackage", Options(32), {"a": "b"}).hash
    assert len(hashes) == 1
    assert other not in hashes
    assert read_spec(tmp_path / "a.mlpackage").description.metadata.userDefined["a"] == "b"


def test_weights_beyond_half_precision_are_refused(deployed, tmp_path):
    network = deployed()
    with torch.no_grad():
        network.head.fc.bias[3] = 7e4
    with pytest.raises(InputError, match=r"head\.fc\.bias reaches 7e\+04"):
        export_package(network, tmp_path / "a.mlpackage", Options(32), {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def converted(deployed, tmp_path_factory):
    """A right package of a network with GELU, and that network."""
    network, package = deployed(activation="gelu"), tmp_path_factory.mktemp("right") / "right.mlpackage"
    save(convert(network, 3, Options(32, "float32")), package, {})
    verify(package, network, Options(32, "float32"))
    return network, package


def operation(spec, kind, number=0):
    main = spec.mlProgram.functions["main"]
    operations = main.block_specializations[main.opset].operations
    return [item for item in operations if item.type == kind][number]


def constant(spec, name):
    main = spec.mlProgram.functions["main"]
    operations = main.block_specializations[main.opset].operations
    [found] = [item for item in operations if item.type == "const" and item.outputs[0].name == name]
    return found.attributes["val"].immediateValue.tensor


def swap_gelu(spec):
    mode = constant(spec, operation(spec, "gelu", 3).inputs["mode"].arguments[0].name)
    assert list(mode.strings.values) == ["EXACT"]
    mode.strings.values[0] = "TANH_APPROXIMATION"


def drop_bias(spec):
    del operation(spec, "conv", 4).inputs["bias"]


def change_stride(spec):
    """Change the stride of the first convolution that reduces the map."""
    for number in range(11):
        strides = constant(spec, operation(spec, "conv", number).inputs["strides"].arguments[0].name)
        if list(strides.ints.values) == [2, 2]:
            strides.ints.values[:] = [1, 1]
            return
    raise AssertionError("no convolution with stride 2")


def swap_weights(spec):
    """Two layers of the same shape."""
    first, second = (operation(spec, "conv", number).inputs["bias"].arguments[0] for number in (0, 1))
    first.name, second.name = second.name, first.name


def add_operator(spec):
    main = spec.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    copy = block.operations.add()
    copy.CopyFrom(operation(spec, "gelu"))
    copy.outputs[0].name = "another"


def unknown_mode(spec):
    constant(spec, operation(spec, "gelu").inputs["mode"].arguments[0].name).strings.values[0] = "FAST"


FAULTS = {
    "gelu": (swap_gelu, "outputs differ"),
    "bias": (drop_bias, "has no constant bias"),
    "stride": (change_stride, "outputs differ"),
    "swapped": (swap_weights, "differ from the network's"),
    "census": (add_operator, "gelu 12 instead of 11"),
    "mode": (unknown_mode, "operator gelu: mode = 'FAST' is not supported"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault, converted, tmp_path):
    network, right = converted
    package = tmp_path / "wrong.mlpackage"
    shutil.copytree(right, package)
    spec = read_spec(package)
    plant, words = FAULTS[fault]
    plant(spec)
    (package / MODEL).write_bytes(spec.SerializeToString())
    with pytest.raises(InputError, match=words):
        verify(package, network, Options(32, "float32"))
    assert package_hash(package) != package_hash(right)


def test_one_changed_weight_is_found(converted, tmp_path):
    """The last bit of the last of them: no output would show it."""
    network, right = converted
    package = tmp_path / "wrong.mlpackage"
    shutil.copytree(right, package)
    blob = bytearray((package / WEIGHTS).read_bytes())
    needle = network.stages[1][0].reparam_conv.weight.detach().numpy().tobytes()
    blob[blob.index(needle)] ^= 1
    (package / WEIGHTS).write_bytes(bytes(blob))
    with pytest.raises(NotVerifiedError, match=r"stages\.1\.0\.reparam_conv\.weight: 1 of \d+ values"):
        verify(package, network, Options(32, "float32"))


@pytest.mark.slow
def test_gelu_that_the_converter_swaps_is_found(converted, deployed, tmp_path):
    """nn.GELU("tanh") silently becomes the exact one."""
    network = deployed(activation="gelu")
    for module in network.modules():
        if isinstance(module, torch.nn.GELU):
            module.approximate = "tanh"
    with pytest.raises(NotVerifiedError, match="outputs differ"):
        export_package(network, tmp_path / "a.mlpackage", Options(32, "float32"), {})
    assert list(tmp_path.iterdir()) == []
