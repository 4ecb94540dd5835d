"""Expanded convolutions give the old outputs, train, and fold back into the network that they came from."""

import copy
from functools import partial

import pytest
import torch
from expanded_networks import Residual, conv_norm, difference, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileone_core import expand, expansion_plan, fold
from mobileone_core.errors import InputError
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.spec import BLOCK_METHODS as METHODS

timm_layers = pytest.importorskip("timm.layers")


@st.composite
def convolutions(draw):
    """Any convolution with its norm: rectangular, dilated, grouped, with any padding."""
    groups = draw(st.sampled_from([1, 2, 4]))
    kernel = draw(st.one_of(st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 2), st.just((2, 2))))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * 2))
    stride = draw(st.tuples(*[st.integers(1, 2)] * 2))
    padding = draw(st.one_of(st.tuples(*[st.integers(0, 3)] * 2), st.just("centred"), st.just("same")))
    if padding == "centred":
        padding = tuple(gap * (size // 2) for gap, size in zip(dilation, kernel, strict=True))
    stride = 1 if padding == "same" else stride
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "circular", "replicate"]))
    channels = [4, draw(st.sampled_from([4, 8]))]
    options = {"bias": draw(st.booleans()), "padding_mode": mode, "groups": groups, "dilation": dilation}
    norm = partial(nn.BatchNorm2d, affine=draw(st.booleans()), momentum=draw(st.sampled_from([0.1, None])))
    return conv_norm(*channels, kernel, stride, padding, norm=norm, **options).double()


@settings(max_examples=25)
@given(convolutions(), st.sampled_from(METHODS), st.integers(1, 3), st.booleans())
def test_outputs_stay_and_fold_exactly(network, method, k, scale):
    torch.manual_seed(0)
    randomize(network).eval()
    x = torch.randn(2, 4, 11, 10, dtype=torch.float64)
    old, keys, kinds = network(x), list(network.state_dict()), [type(module) for module in network]
    weights = {id(value) for value in network.parameters()}
    plan = expansion_plan(network, method=method, k=k, scale=scale)
    expand(network, method=method, k=k, scale=scale)
    assert difference(network(x), old) < 1e-12
    assert isinstance(network[0], ExpandedConv2d) == bool(plan.taken)
    if method != "expandnet":
        lost = weights - {id(value) for value in network.parameters()}
        assert len(lost) <= 1  # the bias, which a norm takes out again
    randomize(network, 1)
    moved = network(x)
    folded = fold(network)
    assert difference(folded(x), moved) < 1e-12
    assert list(folded.state_dict()) == keys
    assert [type(module) for module in folded] == kinds
    assert isinstance(network[0], ExpandedConv2d) == bool(plan.taken)  # a copy was folded


@pytest.mark.parametrize("method", METHODS)
def test_training_steps_in_float32_then_fold(method):
    torch.manual_seed(0)
    network = expand(conv_norm(3, 8, 3, 2, padding=1), k=2, method=method).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 9, 9)).square().mean().backward()
        optimizer.step()
    assert all(value.grad is not None for value in network.parameters())
    branches = network[0].branches
    assert all(branch.norms[-1].weight.abs().min() > 0 for branch in branches.values())
    x = torch.randn(4, 3, 9, 9)
    assert difference(fold(network.eval())(x), network(x)) < 1e-5


def test_modules_of_timm_and_torchvision():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = nn.Sequential(
        timm_layers.ConvNormAct(3, 8, 3, stride=2, act_layer=nn.PReLU),
        nn.Sequential(timm_layers.Conv2dSame(8, 8, 3, 2), timm_layers.BatchNormAct2d(8, act_layer=nn.SiLU)),
        torchvision.ops.Conv2dNormActivation(8, 8, 5, dilation=2, groups=8, activation_layer=nn.Hardswish),
    ).double()
    randomize(network).eval()
    x = torch.randn(2, 3, 33, 35, dtype=torch.float64)
    old, keys = network(x), list(network.state_dict())
    assert len(expansion_plan(network).taken) == 3
    expand(network)
    assert difference(network(x), old) < 1e-12
    moved = randomize(network, 1)(x)
    folded = fold(network)
    assert difference(folded(x), moved) < 1e-12
    assert list(folded.state_dict()) == keys
    assert isinstance(folded[1][1], timm_layers.BatchNormAct2d)


def test_a_module_in_two_places_is_replaced_in_both_and_called_with_its_norm_each_time():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
            self.second = self.first

        def forward(self, x):
            return self.second(self.first(x).relu())

    torch.manual_seed(0)
    network = randomize(Twice().double()).eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    old, keys = network(x), list(network.state_dict())
    expand(network)
    assert difference(network(x), old) < 1e-12
    assert network.first[0] is network.second[0]
    folded = fold(network)
    assert list(folded.state_dict()) == keys
    assert folded.first[0] is folded.second[0]


def test_dead_gammas_and_half_precision_fold():
    network = randomize(conv_norm(3, 8, 3)).double().eval()
    with torch.no_grad():
        network[1].weight[:4] = torch.tensor([0.0, 1e-30, -1e-12, 1e-5])
    expand(network)
    with torch.no_grad():
        network[0].branches["kxk_1"].bn.weight.fill_(1)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert difference(fold(network)(x), network(x)) < 1e-12
    half = network.to(torch.bfloat16)
    assert difference(fold(half)(x.bfloat16()).double(), half(x.bfloat16()).double()) < 0.05


def test_fold_refuses_train_mode_and_what_does_not_fold():
    network = expand(Residual())
    with pytest.raises(InputError, match="train mode"):
        fold(network)
    network.eval().conv1.branches["scale"].bn.train()
    with pytest.raises(InputError, match="train mode"):
        fold(network)
    network.eval().conv1.branches["scale"].bn.running_var.fill_(float("nan"))
    with pytest.raises(InputError, match="finite"):
        fold(network)
    plain = nn.Linear(2, 2)
    assert fold(plain) is not plain


@pytest.mark.parametrize("method", METHODS)
def test_networks_in_half_precision_keep_their_norms_dtype(method):
    network = conv_norm(3, 8, 3)
    network[0].to(torch.bfloat16)
    x = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)
    old = network.eval()(x).double()
    expand(network, k=2, method=method)
    assert difference(network(x).double(), old) < 0.05
    assert {value.dtype for name, value in network.state_dict().items() if "running" in name} == {torch.float32}
    assert difference(fold(network)(x).double(), network(x).double()) < 0.05


def test_fold_refuses_a_part_without_its_norm():
    network = expand(conv_norm(3, 4, 3)).eval()
    for part in (network[0], network[:1], network[1:2], nn.Sequential(copy.deepcopy(network[0]), network[1])):
        with pytest.raises(InputError, match="and its norm"):
            fold(part)
    assert type(fold(network[:2])[0]) is nn.Conv2d


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_padding_wider_than_the_kernel_folds(mode, kernel):
    network = expand(conv_norm(3, 4, kernel, padding=6, padding_mode=mode).double(), k=2).eval()
    randomize(network)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    assert difference(fold(network)(x), network(x)) < 1e-12


@pytest.mark.parametrize(
    "fields", [{"padding": (2, 2), "dilation": (2, 2), "stride": (1, 1)}, {"padding": 0, "stride": 3}, {"dilation": 2}]
)
def test_fields_of_a_convolution_that_were_set_later_count(fields):
    network = randomize(conv_norm(3, 4, 3, padding=1, stride=2).double()).eval()
    vars(network[0]).update(fields)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = network(x)
    expand(network, k=2)
    assert difference(network(x), expected) < 1e-12
    assert difference(fold(randomize(network))(x), network(x)) < 1e-12


def test_a_network_expanded_without_memory_loads_and_folds():
    network = randomize(expand(conv_norm(3, 4, 3), k=2)).eval()
    with torch.device("meta"):
        empty = expand(conv_norm(3, 4, 3), k=2)
    empty.to_empty(device="cpu").load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(empty.eval()(x), network(x))
    assert torch.equal(fold(empty)(x), fold(network)(x))


def test_a_saved_network_loads_with_the_same_plan_and_refuses_another(tmp_path):
    torch.manual_seed(0)
    network = randomize(expand(Residual(), k=2))
    torch.save(network.state_dict(), tmp_path / "expanded.pt")
    state = torch.load(tmp_path / "expanded.pt", weights_only=True)
    same = expand(Residual(), k=2)
    same.load_state_dict(state)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(same.eval()(x), network.eval()(x))
    for options in ({"k": 3}, {"scale": False}, {"method": "acnet"}, {"method": "dbb"}, {"where": ["conv1"]}):
        other = expand(Residual(), **{"k": 2} | options)
        with pytest.raises((InputError, RuntimeError), match=r"branches"):
            other.load_state_dict(state)
    with pytest.raises(InputError, match="not expanded"):
        same.load_state_dict(Residual().state_dict())
    with pytest.raises(RuntimeError, match="branches"):
        Residual().load_state_dict(state)


def test_copies_and_pickles_of_an_expanded_network_fold(tmp_path):
    network = randomize(expand(Residual())).eval()
    torch.save(network, tmp_path / "network.pt")
    x = torch.randn(2, 3, 8, 8)
    for other in (copy.deepcopy(network), torch.load(tmp_path / "network.pt", weights_only=False)):
        assert torch.equal(other(x), network(x))
        assert torch.equal(fold(other)(x), fold(network)(x))
