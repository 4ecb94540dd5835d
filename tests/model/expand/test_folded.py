"""Expanded convolutions train folded as by explicit branches: outputs, gradients, statistics; in less memory."""

import copy

import pytest
import torch
from expanded_networks import conv_norm, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fold import convolutions
from torch import nn

from mobileone_core import expand
from mobileone_core.benchmark.calls import saved_bytes
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.folded.block import can_fold
from mobileone_core.model.network import set_execution
from mobileone_core.model.spec import BLOCK_METHODS as METHODS


def gradients(network, x):
    x = x.clone().requires_grad_()
    output = network(x)
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output))
    return [output.detach(), x.grad, *(value.grad for value in network.parameters()), *network.buffers()]


@settings(max_examples=25)
@given(convolutions(), st.sampled_from(METHODS), st.integers(1, 3))
def test_folded_is_the_sum_of_the_branches(network, method, k):
    torch.manual_seed(0)
    expand(network, method=method, k=k, execution="branches")
    randomize(network)
    folded = set_execution(copy.deepcopy(network), "folded")
    assert all(block.execution == "folded" for block in folded.modules() if isinstance(block, ExpandedConv2d))
    x = torch.randn(3, 4, 11, 10, dtype=torch.float64)
    for ours, theirs in zip(gradients(folded.train(), x), gradients(network.train(), x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel", "padding"), [(2, 1), (4, 2), ((2, 4), (1, 2))])
@pytest.mark.parametrize("method", ["mobileone", "acnet", "expandnet"])
def test_kernels_of_even_sides_fold_in_training(kernel, padding, method):
    torch.manual_seed(0)
    network = randomize(expand(conv_norm(3, 4, kernel, padding=padding).double(), k=2, method=method)).train()
    folded, x = set_execution(copy.deepcopy(network), "folded"), torch.randn(2, 3, 7, 6, dtype=torch.float64)
    set_execution(network, "branches")
    for ours, theirs in zip(gradients(folded, x), gradients(network, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_which_blocks_fold():
    for method in METHODS:
        block = expand(conv_norm(4, 4, 3, padding=1), method=method).train()[0]
        assert can_fold(block) == (method != "dbb")  # a norm stands between its convolutions
        assert not can_fold(block.eval())


def test_an_activation_in_place_may_follow():
    for arguments in ((8, 8, 1), (8, 8, 3)):
        network = nn.Sequential(*expand(conv_norm(*arguments), execution="folded")[:2], nn.ReLU6(inplace=True)).train()
        network(torch.randn(4, 8, 9, 9)).sum().backward()


@pytest.mark.parametrize("k", [1, 4, 8])
def test_folded_keeps_no_more_activations_than_the_plain_network(k):
    """At most 1.2 times the plain network's; what does not grow with the batch has the size of parameters."""
    torch.manual_seed(0)
    layers = [
        conv_norm(3, 8, 3, 2, 1),
        conv_norm(8, 8, 5, padding=2, groups=8),
        conv_norm(8, 12, 1),
        conv_norm(12, 12, 3),
    ]
    plain = nn.Sequential(*layers).train()
    folded = expand(copy.deepcopy(plain), k=k, execution="folded")

    def growing(network):
        whole, half = (
            saved_bytes(lambda n=n: network(torch.randn(n, 3, 32, 32)), network.parameters()) for n in (16, 8)
        )
        return whole - half

    assert any(isinstance(module, ExpandedConv2d) for module in folded.modules())
    assert growing(folded) <= 1.2 * growing(plain)
