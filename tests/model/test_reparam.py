import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.expand.branches import folded_kernel
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ACTIVATIONS, BlockSpec, ModelSpec
from mobileone_core.model.weights import export_weights, load_weights

SEEDS = st.integers(0, 2**20)


def convolutions(block):
    return [m for name, m in block.named_modules() if isinstance(m, nn.Conv2d) and "fc" not in name]


@given(data=st.data(), seed=SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_block_folds_exactly(block_specs, randomize, relative_error, data, seed):
    spec, activation = data.draw(block_specs), data.draw(st.sampled_from(ACTIVATIONS))
    size = data.draw(st.integers(1, 9))
    torch.manual_seed(seed)
    block = randomize(MobileOneBlock(spec, activation), seed, spread=3.0).double().eval()
    deployed = reparameterize(block)
    assert deployed.branches() == []
    assert len(convolutions(deployed)) == 1
    x = torch.randn(2, spec.in_channels, size, size, dtype=torch.float64)
    with torch.no_grad():
        linear = sum(branch(x) for branch in block.branches())
        assert relative_error(deployed.reparam_conv(x), linear) <= 1e-9
        assert relative_error(deployed(x), block(x)) <= 1e-9


@pytest.mark.slow
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_network_folds_exactly(model_specs, randomize, relative_error, data, seed):
    spec = data.draw(model_specs)
    torch.manual_seed(seed)
    model = randomize(build_model(spec, num_classes=5), seed).double().eval()
    x = torch.randn(2, spec.in_channels, 17, 17, dtype=torch.float64)
    deployed = reparameterize(model)
    with torch.no_grad():
        assert relative_error(deployed(x), model(x)) <= 1e-9
    assert deployed.deployed
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())


@given(data=st.data(), seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_a_float32_block_folds_within_float32(block_specs, randomize, relative_error, data, seed):
    spec = data.draw(block_specs)
    torch.manual_seed(seed)
    block = randomize(MobileOneBlock(spec, "gelu"), seed).eval()
    x = torch.randn(2, spec.in_channels, 8, 8)
    deployed = reparameterize(block)
    assert deployed.reparam_conv.weight.dtype == torch.float32
    with torch.no_grad():
        linear = sum(branch(x) for branch in block.branches())
        assert relative_error(deployed.reparam_conv(x), linear) <= 1e-4


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_float32_network_folds_within_float32(activation, relative_error):
    torch.manual_seed(0)
    model = build_model(ModelSpec.preset("tiny", activation=activation, se="paper"), num_classes=10).train()
    with torch.no_grad():
        for _ in range(5):  # statistics of random images, so that nothing explodes
            model(torch.randn(16, 3, 32, 32))
        x = torch.randn(8, 3, 32, 32)
        model.eval()
        assert relative_error(reparameterize(model)(x), model(x)) <= 1e-4


def test_folding_is_computed_in_float64_then_rounded(randomize):
    spec = BlockSpec(12, 12, 3, 1, 3, k=4, reparam=True, se=False)
    block = randomize(MobileOneBlock(spec), spread=3.0).eval()
    kernel, bias = folded_kernel(copy.deepcopy(block).double().branches())
    deployed = reparameterize(block)
    assert torch.equal(deployed.reparam_conv.weight, kernel.float())
    assert torch.equal(deployed.reparam_conv.bias, bias.float())


def test_the_original_and_the_random_state_are_left_alone(randomize):
    model = randomize(build_model(ModelSpec.preset("tiny", se="paper", activation="dynamic_relu_b"))).eval()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    deployed = reparameterize(model)
    for parameter in deployed.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model.deployed
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_deployed_model_comes_back_as_a_copy(randomize):
    once = reparameterize(randomize(build_model("tiny")).eval())
    twice = reparameterize(once)
    assert twice is not once
    assert all(torch.equal(a, b) and a is not b for a, b in zip(once.parameters(), twice.parameters(), strict=True))


def test_blocks_inside_another_module_fold_too(randomize, relative_error):
    spec = BlockSpec(6, 6, 3, 1, 6, k=2, reparam=True, se=True)
    inner = nn.Sequential(nn.Conv2d(3, 6, 1), MobileOneBlock(spec), nn.Flatten())
    wrapped = randomize(inner).double().eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    deployed = reparameterize(wrapped)
    assert deployed[1].deployed
    assert relative_error(deployed(x), wrapped(x)) <= 1e-9


def test_train_mode_is_refused():
    model = build_model("tiny")
    with pytest.raises(ValueError, match=r"train mode.*model\.eval\(\)"):
        reparameterize(model)
    model.eval().stages[1][0].conv_scale.bn.train()
    with pytest.raises(InputError, match="train mode"):
        reparameterize(model)


def test_the_deployed_model_can_be_trained_on(randomize):
    deployed = reparameterize(randomize(build_model("tiny", 3)).eval())
    deployed.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in deployed.parameters())


class OwnBatchNorm(nn.BatchNorm2d):
    pass


def frozen(norm):
    other = FrozenBatchNorm2d(norm.num_features, norm.eps)
    other.load_state_dict({name: value for name, value in norm.state_dict().items() if name != "num_batches_tracked"})
    return other


def own(norm):
    other = OwnBatchNorm(norm.num_features, norm.eps)
    other.load_state_dict(norm.state_dict())
    return other


def without_affine(norm):
    other = nn.BatchNorm2d(norm.num_features, norm.eps, affine=False)
    other.running_mean, other.running_var = norm.running_mean, norm.running_var
    return other


def with_norms(model, replace):
    """The network with every BN replaced."""
    for name, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            model.set_submodule(name, replace(norm))
    return model.eval()


@pytest.mark.parametrize("replace", [nn.SyncBatchNorm.convert_sync_batchnorm, own, frozen, without_affine])
def test_other_kinds_of_bn_fold(replace, randomize, relative_error):
    model = with_norms(randomize(build_model("tiny", 3).double()), lambda norm: replace(norm).double())
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(reparameterize(model)(x), model(x)) <= 1e-9


class Activated(nn.BatchNorm2d):
    """A norm with an activation inside, as timm's BatchNormAct2d."""

    def forward(self, x):
        return super().forward(x).relu()


def test_a_bn_that_does_more_is_refused():
    message = "model: '{}' is not allowed; a BN with running statistics that scales and shifts, nothing else"
    for replace in (lambda norm: Activated(norm.num_features), lambda norm: nn.GroupNorm(1, norm.num_features)):
        model = with_norms(build_model("tiny", 3), replace)
        with pytest.raises(InputError, match=message.format(type(model.stem.conv_scale.bn).__name__)):
            reparameterize(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_device_or_dtype_makes_no_difference(dtype, randomize):
    model = randomize(build_model("tiny", 3)).eval()
    expected, state = reparameterize(model).state_dict(), export_weights(model)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            deployed = reparameterize(model)
            load_weights(deployed, {name: value for name, value in state.items() if "num_batches" not in name})
            load_weights(model, state)
    finally:
        torch.set_default_dtype(usual)
    values = deployed.state_dict()
    assert all(values[name].dtype == torch.float32 and values[name].device.type == "cpu" for name in expected)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_what_the_copy_keeps(randomize):
    model = nn.ModuleDict({"net": randomize(build_model("tiny", 3)), "drop": nn.Dropout()}).eval()
    model["drop"].train()
    net = model["net"]
    net.stem.requires_grad_(False)
    net.head.requires_grad_(False)
    net.stages[0][0].register_buffer("count", torch.tensor(3))
    calls = []
    net.stages[0].register_forward_hook(lambda *_: calls.append(1))
    deployed = reparameterize(model)
    trains = {name for name, value in deployed.named_parameters() if value.requires_grad}
    assert not any(name.startswith(("net.stem", "net.head")) for name in trains)
    assert "net.stages.0.0.reparam_conv.bias" in trains
    assert deployed["drop"].training
    assert not any(part.training for part in deployed["net"].modules())
    assert deployed["net"].stages[0][0].count == 3
    deployed["net"](torch.randn(1, 3, 16, 16))
    assert calls == [1]


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def doubled_by_hook(conv):
    conv.register_forward_hook(lambda *arguments: 2 * arguments[-1])


def doubled_by_class(conv):
    conv.__class__ = Doubled


def biased(conv):
    conv.bias = nn.Parameter(torch.ones(conv.out_channels))


def diverged(conv):
    nn.init.constant_(conv.weight, float("nan"))


@pytest.mark.parametrize("change", [doubled_by_hook, doubled_by_class, biased, diverged, nn.utils.spectral_norm])
def test_a_branch_that_no_convolution_equals_is_refused(change, randomize):
    net = randomize(build_model("tiny", 3)).eval()
    change(net.stages[1][1].conv_kxk[0].conv)
    with pytest.raises(InputError, match=r"MobileOneBlock with an error of .* branches of plain convolutions"):
        reparameterize(net)


def test_what_is_no_network_or_convolution_is_named(randomize):
    net = randomize(build_model("tiny", 3)).eval()
    with pytest.raises(InputError, match="model: 'OrderedDict' is not allowed; a torch module"):
        reparameterize(net.state_dict())
    net.stem.conv_kxk[0].conv = nn.Sequential(net.stem.conv_kxk[0].conv)
    with pytest.raises(InputError, match="model: 'Sequential' is not allowed; a convolution in every branch"):
        reparameterize(net)


def test_frozen_statistics_fold_while_the_rest_trains(randomize, relative_error):
    model = randomize(build_model("tiny", 3).double()).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    deployed, x = reparameterize(model), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert all(part.training for part in deployed.modules())
    assert relative_error(deployed(x), model(x)) <= 1e-9


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("activation", ["relu", "dynamic_relu_b", "dynamic_shift_max"])
@pytest.mark.parametrize("fold", [reparameterize, copy.deepcopy])
def test_both_forms_are_scripted(activation, fold, randomize):
    model = fold(randomize(build_model(ModelSpec.preset("tiny", activation=activation, se="paper", k=2), 3)).eval())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(torch.jit.script(model)(x), model(x))
