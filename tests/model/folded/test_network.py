"""Whole networks: one state dict for both paths, and training that moves from one to the other."""

import copy

import pytest
import torch
from torch.nn import functional as F

from mobileone_core.benchmark.calls import saved_bytes
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, set_execution
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec

SPEC = ModelSpec.preset("tiny", k=3, se=(0, 0, 1, 1))


def images(batch=8, size=12, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def train(network, paths, lr=0.05):
    """A copy of the network after one step of SGD with momentum per path, each on another batch."""
    network = copy.deepcopy(network).double().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    for step, path in enumerate(paths):
        set_execution(network, path)
        loss = F.cross_entropy(network(images(seed=step)), torch.arange(8) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def test_the_paths_have_one_state_dict():
    torch.manual_seed(0)
    branches = build_model(SPEC, 5)
    torch.manual_seed(0)
    folded = build_model(SPEC, 5, execution="folded")
    assert list(branches.state_dict()) == list(folded.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(branches.parameters(), folded.parameters(), strict=True))


@pytest.mark.parametrize("spec", [SPEC, SPEC.changed(reparam=False), SPEC.changed(activation="gelu", k=1)])
def test_training_moves_freely_between_the_paths(spec):
    """Six steps by the branches, folded, and alternately, come to the same weights and statistics."""
    torch.manual_seed(1)
    network = build_model(spec, 5)
    expected = train(network, ["branches"] * 6).state_dict()
    for paths in (["folded"] * 6, ["branches", "folded"] * 3):
        for name, value in train(network, paths).state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("spec", [SPEC, SPEC.changed(reparam=False)])
def test_gradients_can_be_summed_and_clipped_in_place(spec):
    """No two parameters' gradients share memory."""
    torch.manual_seed(6)
    network = build_model(spec, 5).double().train()
    results = {}
    for path in ("branches", "folded"):
        set_execution(network, path).zero_grad()
        for seed in range(3):
            F.cross_entropy(network(images(seed=seed)), torch.arange(8) % 5).backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        results[path] = [norm, *(parameter.grad.clone() for parameter in network.parameters())]
    for actual, expected in zip(results["folded"], results["branches"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_evaluation_and_the_deployed_form_are_the_same():
    torch.manual_seed(2)
    network = train(build_model(SPEC, 5), ["folded"] * 2).eval()
    x = images(2)
    expected = set_execution(network, "branches")(x)
    assert torch.equal(set_execution(network, "folded")(x), expected)
    torch.testing.assert_close(reparameterize(network)(x), expected, rtol=1e-9, atol=1e-9)


def test_an_unknown_execution_is_refused():
    with pytest.raises(InputError, match="execution: 'fast' is not allowed"):
        build_model("tiny", 10, execution="fast")


def saved_by(k, execution):
    """Bytes that autograd saves for the backward pass."""
    torch.manual_seed(0)
    network = build_model(ModelSpec.preset("tiny", k=k), 10, execution=execution).train()
    return saved_bytes(lambda: network(torch.randn(128, 3, 32, 32)), network.parameters())


@pytest.mark.slow
def test_the_memory_kept_for_the_backward_pass_hardly_grows_with_k():
    folded = {k: saved_by(k, "folded") for k in (1, 4, 8)}
    assert folded[8] <= 1.15 * folded[1]
    assert folded[4] <= 0.45 * saved_by(4, "branches")
