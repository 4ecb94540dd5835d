"""The weight average against a loop in float64, and against timm's."""

import copy

import torch
from timm.utils import ModelEmaV2
from torch import nn

from mobileone_core.training.optimizer import AveragedNetwork

DECAY, STEPS = 0.9, 40


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def train(net, after_step):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.manual_seed(1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(torch.randn(5, 2, 4, 4) + 1).square().mean().backward()
        optimizer.step()
        after_step()


def test_average_equals_a_float64_loop_statistics_included():
    net = network()
    averaged = AveragedNetwork(net, DECAY)
    averaged.follow(net)
    expected = {name: value.double() for name, value in net.state_dict().items()}

    def step():
        averaged.update()
        for name, value in net.state_dict().items():
            expected[name] = DECAY * expected[name] + (1 - DECAY) * value.double()

    train(net, step)
    state = averaged.module.state_dict()
    assert not torch.allclose(state["0.weight"], net.state_dict()["0.weight"], rtol=1e-3)
    for name in state.keys() - {"1.num_batches_tracked"}:
        torch.testing.assert_close(state[name].double(), expected[name], rtol=1e-5, atol=1e-7)
    assert {"1.running_mean", "1.running_var"} <= state.keys()
    assert state["1.num_batches_tracked"] == STEPS


def test_average_equals_timms():
    net = network()
    averaged, oracle = AveragedNetwork(net, DECAY), ModelEmaV2(net, DECAY)
    averaged.follow(net)

    def step():
        averaged.update()
        oracle.update(net)

    train(net, step)
    for name, value in oracle.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(averaged.module.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_average_starts_at_the_network_and_leaves_it_alone():
    net = network()
    before = copy.deepcopy(net.state_dict())
    averaged = AveragedNetwork(net, DECAY)
    averaged.follow(net)
    averaged.update()
    images = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(averaged.module.eval()(images), net.eval()(images))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
