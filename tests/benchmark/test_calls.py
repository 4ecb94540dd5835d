"""The timed step is a training step, the timed inference changes nothing, and both work on the same network."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mobileone_core.benchmark.calls import LEARNING_RATE, TrainingStep, synchronized
from mobileone_core.benchmark.subjects.forms import build_calls, build_forms
from mobileone_core.training.execution import Execution

CPU = torch.device("cpu")


@pytest.fixture
def forms(cell):
    return build_forms(cell, Execution("cpu"), CPU)


def changed(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("form", ["train", "deployed"])
@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "nesterov": False, "lr": 0.01}, {"clip_norm": 1.0}])
def test_a_step_trains(cell, forms, form, changes):
    recipe = replace(cell.recipe, **{"lr": 0.02, **changes})
    step = build_calls(forms[form], replace(cell, recipe=recipe), Execution("cpu"))[0]
    step = TrainingStep(step.network, recipe, step.images, step.labels)
    before, losses = copied(step.network), []
    for _ in range(12):
        step()
        losses.append(float(step.loss))
    assert losses[-1] < losses[0] - 0.01
    assert {name for name, _ in step.network.named_parameters()} <= changed(step.network, before)
    assert all(parameter.grad is None for parameter in step.network.parameters())


def test_a_step_is_plain_gradient_descent(cell, forms):
    """Against the update written out: without momentum and decay, w - lr * gradient of the smoothed loss."""
    recipe = replace(cell.recipe, momentum=0.0, nesterov=False, weight_decay=0.0, lr=0.1)
    step = build_calls(forms["deployed"], cell, Execution("cpu"))[0]
    step = TrainingStep(step.network, recipe, step.images, step.labels)
    weight = step.network.head.fc.weight
    classes = weight.shape[0]
    features = step.network.forward_features(step.images)[-1].mean((2, 3)).detach()
    targets = nn.functional.one_hot(step.labels, classes) * 0.9 + 0.1 / classes
    error = step.network(step.images).softmax(1).detach() - targets
    expected = weight.detach() - 0.1 * error.T @ features / len(features)
    step()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["train", "deployed"])
def test_timed_steps_repeat_the_same_work(cell, forms, form):
    """Hundreds of them leave the loss where it was."""
    step = build_calls(forms[form], cell, Execution("cpu"))[0]
    assert step.recipe == replace(cell.recipe, lr=LEARNING_RATE)
    step()
    first = float(step.loss)
    for _ in range(30):
        step()
    assert float(step.loss) == pytest.approx(first, rel=1e-4)


def test_calls_leave_the_network_and_each_other_alone(cell, forms):
    for network in forms.values():
        before, calls = copied(network), build_calls(network, cell, Execution("cpu"))
        step, inference = calls
        evaluated = copied(inference.network)
        for call in (*calls, *calls):
            call()
        assert changed(network, before) == set()
        assert changed(inference.network, evaluated) == set()
        assert not inference.network.training
        assert step.network.training


def test_shapes_are_those_of_the_cell(cell, forms):
    step, inference = build_calls(forms["train"], cell, Execution("cpu"))
    assert step.images.shape == (256, 1, 16, 16)
    assert inference.images.shape == (1, 1, 16, 16)
    assert step.labels.unique().tolist() == list(range(10))


def test_the_forms_are_one_network(cell, forms):
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert forms["deployed"].deployed
    assert not forms["train"].deployed
    with torch.inference_mode():
        torch.testing.assert_close(forms["deployed"](images), forms["train"](images), rtol=1e-3, atol=1e-4)


def test_bfloat16_is_used_where_the_recipe_says_so(cell, forms):
    recipe = replace(cell.recipe, precision="bf16-mixed")
    calls = build_calls(forms["train"], replace(cell, recipe=recipe), Execution("cpu"))
    seen = []
    for call in calls:
        call.network.head.fc.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
        call()
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert calls[0].loss.isfinite()


def test_a_call_on_a_gpu_waits_for_it(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", done.append)

    def call():
        done.append("call")

    assert synchronized(call, CPU) is call
    synchronized(call, torch.device("cuda", 0))()
    assert done == ["call", torch.device("cuda", 0)]
