"""Our S0 to S4 against timm's: outputs, gradients and running statistics, weights carried both ways, both forms."""

import copy

import pytest
import timm
import torch
from timm.utils import reparameterize_model

from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.weights import export_weights, load_weights

pytestmark = pytest.mark.quick_cases("s0")
VARIANTS = ["s0", "s1", "s2", "s3", "s4"]
CLASSES = 10


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request, randomize):
    """timm's network with random statistics and ours with its weights, in float64 and evaluation mode."""
    torch.manual_seed(0)
    theirs = randomize(timm.create_model(f"mobileone_{request.param}", num_classes=CLASSES)).double().eval()
    ours = build_model(request.param, CLASSES)
    for bn, other in zip(norms(ours), norms(theirs), strict=True):
        bn.eps = other.eps
    load_weights(ours.double().eval(), theirs.state_dict())
    return ours, theirs


def norms(model):
    named = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    return [module for _, module in sorted(named, key=lambda item: item[0])]


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def emptied(model):
    """A copy with every parameter and statistic zero."""
    model = copy.deepcopy(model)
    for value in model.state_dict().values():
        value.zero_()
    return model


@torch.no_grad()
def test_evaluation_outputs(pair, images, relative_error):
    ours, theirs = pair
    assert relative_error(ours(images), theirs(images)) < 1e-12


@pytest.mark.slow
def test_training_outputs_gradients_and_statistics(pair, images, relative_error):
    ours, theirs = (copy.deepcopy(model).train() for model in pair)
    direction = torch.randn(4, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = [model(x) for model, x in zip((ours, theirs), inputs, strict=True)]
    assert relative_error(*outputs) < 1e-9
    for output in outputs:
        (output * direction).sum().backward()
    assert relative_error(inputs[0].grad, inputs[1].grad) < 1e-9
    wanted = dict(theirs.named_parameters())
    norm = torch.stack([p.grad.norm() for p in wanted.values()]).norm()
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - wanted[name].grad).norm() < 1e-9 * norm, name
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], rtol=1e-9, atol=1e-12, msg=name)


@torch.no_grad()
def test_their_code_loads_our_train_form(pair, images, relative_error):
    ours, theirs = pair
    loaded = emptied(theirs)
    loaded.load_state_dict(export_weights(ours, layout="timm"), strict=True)
    assert relative_error(loaded(images), ours(images)) < 1e-12


@pytest.mark.slow
@torch.no_grad()
def test_deployed_forms_agree_and_carry_over(pair, images, relative_error):
    ours, theirs = pair
    deployed, their_deployed = reparameterize(ours), reparameterize_model(theirs)
    expected = theirs(images)
    assert relative_error(deployed(images), expected) < 1e-9

    loaded = MobileOne(ours.spec, CLASSES, deployed=True).double().eval()
    load_weights(loaded, their_deployed.state_dict())
    assert relative_error(loaded(images), expected) < 1e-9

    their_loaded = emptied(their_deployed)
    their_loaded.load_state_dict(export_weights(deployed, layout="timm"), strict=True)
    assert relative_error(their_loaded(images), expected) < 1e-9
