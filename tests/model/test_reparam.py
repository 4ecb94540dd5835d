import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import fold_block, reparameterize
from mobileone_core.model.spec import ACTIVATIONS, BlockSpec, ModelSpec

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
    kernel, bias = fold_block(copy.deepcopy(block).double())
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
