"""The recorded difference of a cell's two forms, against both run by hand."""

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.evaluate import FormDifference


def logits(network, cell):
    loader = open_loaders(cell.data, None, cell.seed, LoaderOptions(256, "none")).test
    with torch.no_grad():
        return torch.cat([network(images) for images, _ in loader])


def test_a_cell_records_the_largest_difference_over_the_test_set(train, cell):
    result = train()
    network = build_model(cell.model, 10).eval()
    network.load_state_dict(load_file(result.weights))
    trained, deployed = logits(network, cell), logits(reparameterize(network), cell)
    difference, relative = (result.metrics[f"test/form_difference{name}"] for name in ("", "_relative"))
    assert difference == pytest.approx((trained - deployed).abs().max().item(), rel=1e-6)
    assert relative == pytest.approx(difference / trained.abs().max().item(), rel=1e-6)
    assert 0 < relative < 1e-5


def test_a_form_that_differs_is_seen():
    """The first batch has the largest difference, the second the largest logit."""
    network = build_model("tiny", 10).eval()
    forms = FormDifference(network, torch.contiguous_format, lambda outputs: [outputs])
    with torch.no_grad():
        forms.deployed.head.fc.bias[3] += 0.5
        forms.deployed.head.fc.bias[4] -= 0.75
        for scale in (1.0, 10.0):
            images = scale * torch.randn(4, 3, 32, 32)
            said = network(images)
            forms.update(images, said)
    measured = forms.compute()
    assert measured["form_difference"] == pytest.approx(0.75, rel=1e-3)
    assert measured["form_difference_relative"] == pytest.approx(0.75 / said.abs().max().item(), rel=1e-3)


def test_plain_networks_are_compared_too(train, cell):
    result = train(spec=cell.__class__(cell.model.changed(reparam=False), cell.data, cell.recipe), epochs=1)
    assert 0 < result.metrics["test/form_difference_relative"] < 1e-5


def test_networks_that_say_nothing():
    network = torch.nn.Linear(2, 3).eval()
    torch.nn.init.zeros_(network.weight)
    torch.nn.init.zeros_(network.bias)
    forms = FormDifference(network, torch.contiguous_format, lambda outputs: [outputs])
    forms.update(torch.ones(4, 2), network(torch.ones(4, 2)))
    assert forms.compute() == {"form_difference": 0.0, "form_difference_relative": 0.0}
