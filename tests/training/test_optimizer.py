"""The parameters that decay, and that the optimizers are the recipe's."""

import pytest
import torch

from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.optimizer import build_optimizer, parameter_groups
from mobileone_core.training.recipe import Recipe

SPEC = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 1), k=2, se=(0, 1))


def names_of(network, parameters):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def test_norms_and_biases_do_not_decay():
    network = build_model(SPEC, 3)
    decayed, spared = parameter_groups(network, Recipe())
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-4, 0.0)
    weighted = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    }
    everything = {name for name, _ in network.named_parameters()}
    assert names_of(network, decayed["params"]) == weighted
    assert names_of(network, spared["params"]) == everything - weighted


def test_everything_decays_where_the_recipe_says_so():
    network = build_model(SPEC, 3)
    (group,) = parameter_groups(network, Recipe(decay_norm_and_bias=True))
    assert len(group["params"]) == len(list(network.parameters()))
    assert group["weight_decay"] == 1e-4


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_steps_as_the_formula_says(precision, nesterov):
    weight = torch.nn.Linear(3, 2)
    start = weight.weight.detach().double().clone()
    recipe = Recipe(lr=0.1, weight_decay=0.5, nesterov=nesterov, precision=precision, clip_norm=9)
    optimizer = build_optimizer(weight, recipe)
    expected, velocity = start.clone(), torch.zeros_like(start)
    for step in range(3):
        gradient = torch.full((2, 3), 1.0 + step)
        weight.weight.grad, weight.bias.grad = gradient.clone(), torch.zeros(2)
        optimizer.step()
        full = gradient.double() + 0.5 * expected
        velocity = full if step == 0 else 0.9 * velocity + full
        expected = expected - 0.1 * (full + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(weight.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_adamw_is_pytorchs_with_the_recipes_momentum():
    network = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(network, Recipe(optimizer="adamw", momentum=0.8, lr=1e-3))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.999)}
