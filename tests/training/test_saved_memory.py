"""What is kept for a backward, counted where it can be counted by hand."""

import weakref

import torch
from torch import nn

from mobileone_core.training.saved_memory import saved_bytes

IMAGES = torch.randn(4, 3, 8, 8)
ACTIVATION = 4 * 3 * 8 * 8 * 4  # bytes of one map


def test_a_convolution_keeps_its_input_and_no_parameter():
    network = nn.Conv2d(3, 3, 3, padding=1)
    assert saved_bytes(lambda: network(IMAGES), network.parameters()) == ACTIVATION
    assert saved_bytes(lambda: network(IMAGES), []) == ACTIVATION + network.weight.untyped_storage().nbytes()


def test_a_storage_counts_once_whatever_looks_at_it():
    network = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
    parameters = list(network.parameters())
    assert saved_bytes(lambda: sum(part(IMAGES) for part in network), parameters) == ACTIVATION
    assert saved_bytes(lambda: network[0](IMAGES[:2]) + network[1](IMAGES[2:]), parameters) == ACTIVATION


def test_a_chain_keeps_every_map():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    assert saved_bytes(lambda: network(IMAGES), network.parameters()) == 5 * ACTIVATION


def test_each_branch_with_a_norm_keeps_a_map_of_its_own():
    def kept(branches):
        network = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(branches))
        return saved_bytes(lambda: sum(part(IMAGES) for part in network), network.parameters())

    per_branch = kept(2) - kept(1)
    assert ACTIVATION <= per_branch < ACTIVATION + 100  # and statistics a channel
    assert kept(4) - kept(1) == 3 * per_branch


def test_nothing_is_kept_without_gradients():
    network = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        assert saved_bytes(lambda: network(IMAGES), network.parameters()) == 0


def test_nothing_is_left_behind():
    """ReLU keeps its own output: held as it is, a node would hold itself."""
    outputs = []

    def forward():
        output = nn.functional.relu(IMAGES.clone().requires_grad_() * 2)
        outputs.append(weakref.ref(output))

    assert saved_bytes(forward, []) == ACTIVATION
    assert outputs[0]() is None
