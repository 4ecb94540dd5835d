"""What is kept for a backward, counted where it can be counted by hand."""

import torch
from torch import nn

from mobileone_core.training.saved_memory import saved_bytes

IMAGES = torch.randn(4, 3, 8, 8)
ACTIVATION = 4 * 3 * 8 * 8 * 4  # bytes of one map


def test_a_convolution_keeps_its_input_and_no_parameter():
    network = nn.Conv2d(3, 3, 3, padding=1)
    output, kept = saved_bytes(lambda: network(IMAGES), network.parameters())
    assert torch.equal(output, network(IMAGES))
    assert kept == ACTIVATION
    weight = network.weight.untyped_storage().nbytes()
    assert saved_bytes(lambda: network(IMAGES), [])[1] == ACTIVATION + weight


def test_a_storage_counts_once_whatever_looks_at_it():
    network = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
    parameters = list(network.parameters())
    assert saved_bytes(lambda: sum(part(IMAGES) for part in network), parameters)[1] == ACTIVATION
    assert saved_bytes(lambda: network[0](IMAGES[:2]) + network[1](IMAGES[2:]), parameters)[1] == ACTIVATION


def test_a_chain_keeps_every_map():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    assert saved_bytes(lambda: network(IMAGES), network.parameters())[1] == 5 * ACTIVATION


def test_each_branch_with_a_norm_keeps_a_map_of_its_own():
    def kept(branches):
        network = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(branches))
        return saved_bytes(lambda: sum(part(IMAGES) for part in network), network.parameters())[1]

    per_branch = kept(2) - kept(1)
    assert ACTIVATION <= per_branch < ACTIVATION + 100  # and statistics a channel
    assert kept(4) - kept(1) == 3 * per_branch


def test_nothing_is_kept_without_gradients():
    network = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        assert saved_bytes(lambda: network(IMAGES), network.parameters())[1] == 0
