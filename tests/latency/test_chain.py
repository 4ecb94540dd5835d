"""The chain: both forms of Dynamic ReLU are one function, folding is exact, and activations stay ordinary numbers."""

from typing import get_args

import pytest
import torch
from activation_range import require_ordinary

from mobileone_core.errors import InputError
from mobileone_core.latency.cell import Chain, ChainActivation, ChainBlock, LatencyCell
from mobileone_core.latency.networks import (
    ChainNetwork,
    build_forms,
    build_images,
    chain_activation,
    count_cost,
    fold_norms,
)
from mobileone_core.model.network import calibrate

SMALL = LatencyCell(Chain(width=16), image_size=32, num_classes=10)


@pytest.mark.parametrize("name", ["dynamic_relu_a", "dynamic_relu_b"])
def test_both_forms_of_dynamic_relu_are_one_function(name):
    torch.manual_seed(0)
    usual, flat = (chain_activation(form, 24).double() for form in (f"{name}_rank5", name))
    for parameter in flat.parameters():
        torch.nn.init.normal_(parameter)
    usual.load_state_dict(flat.state_dict())
    x = torch.randn(3, 24, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(usual(x), flat(x), rtol=1e-12, atol=1e-12)
    assert (flat(x) - x.relu()).abs().max() > 0.1  # not ReLU: the coefficients count


@pytest.mark.parametrize("block", get_args(ChainBlock))
def test_folding_changes_nothing(block):
    torch.manual_seed(0)
    network = ChainNetwork(Chain(block=block, depth=3, width=8), 5).double()
    for layer in network.layers:
        torch.nn.init.normal_(layer.bn.weight)
        torch.nn.init.normal_(layer.bn.bias)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    calibrate(network, [images])
    expected = network(images)
    fold_norms(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [{"network.activation": name} for name in get_args(ChainActivation)]
    + [{"network.block": name} for name in get_args(ChainBlock)],
    ids=lambda changes: " ".join(changes.values()),
)
def test_activations_are_ordinary_numbers(changes):
    cell = SMALL.changed(changes)
    require_ordinary(build_forms(cell)[1], build_images(cell))


def test_blocks_have_what_their_names_say():
    costs = {}
    for block in get_args(ChainBlock):
        cell = SMALL.changed({"network.block": block})
        costs[block] = count_cost(build_forms(cell)[1], build_images(cell))
    hidden, width, depth = 1, 16, 30
    macs = depth * 2 * hidden * width
    params = macs + depth * (hidden + width)
    assert costs["skip"] == costs["baseline"]
    assert costs["se"] == costs["se_skip"] == (costs["baseline"][0] + params, costs["baseline"][1] + macs)


def test_an_unknown_activation_is_refused():
    with pytest.raises(InputError, match="activation: 'swoosh'"):
        chain_activation("swoosh", 8)
