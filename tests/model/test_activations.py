"""Every activation against its formula, written out element by element in numpy."""

import math

import numpy as np
import pytest
import torch

from mobileone_core.errors import InputError
from mobileone_core.model.activations import SqueezeExcite, build_activation
from mobileone_core.model.spec import ACTIVATIONS


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def hard_sigmoid(values):
    return np.clip(values + 3, 0, 6) / 6


STATIC = {
    "relu": lambda v: max(v, 0.0),
    "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
    "silu": lambda v: v / (1 + math.exp(-v)),
    "hardswish": lambda v: v * min(max(v + 3, 0.0), 6.0) / 6,
}


def context(module, image):
    """Pool, linear, ReLU, linear for one image (C, H, W)."""
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in module.parameters())
    hidden = np.maximum(w1[:, :, 0, 0] @ image.mean(axis=(1, 2)) + b1, 0)
    return w2[:, :, 0, 0] @ hidden + b2


def dynamic_relu(module, image, shared):
    channels = len(image)
    delta = 2 * sigmoid(context(module, image)) - 1
    delta = delta.reshape(2, 2, 1 if shared else channels)  # a or b, piece, channel
    alpha, beta = (1.0, 0.0), (0.0, 0.0)
    out = np.empty_like(image)
    for index in np.ndindex(*image.shape):
        c = 0 if shared else index[0]
        pieces = [(alpha[k] + 1.0 * delta[0, k, c]) * image[index] + beta[k] + 0.5 * delta[1, k, c] for k in (0, 1)]
        out[index] = max(pieces)
    return out


def dynamic_shift_max(module, image):
    channels = len(image)
    a = 4 * hard_sigmoid(context(module, image)) - 2
    a = a.reshape(2, 2, channels)  # piece k, fusion j, channel i
    alpha = (1.0, 0.0)
    out = np.empty_like(image)
    for i, row, column in np.ndindex(*image.shape):
        sums = [
            sum((alpha[j] + a[k, j, i]) * image[(i + j * channels // 2) % channels, row, column] for j in (0, 1))
            for k in (0, 1)
        ]
        out[i, row, column] = max(sums)
    return out


DYNAMIC = {
    "dynamic_relu_a": lambda module, image: dynamic_relu(module, image, shared=True),
    "dynamic_relu_b": lambda module, image: dynamic_relu(module, image, shared=False),
    "dynamic_shift_max": dynamic_shift_max,
}


def drawn(module, channels):
    torch.manual_seed(3)
    module = module.double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 1.5)
    return module, torch.randn(3, channels, 4, 5, dtype=torch.float64) * 3 + 0.5


@pytest.mark.parametrize("name", STATIC)
def test_static_activations(name):
    module, x = drawn(build_activation(name, 4), 4)
    expected = np.vectorize(STATIC[name])(x.numpy())
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("channels", [1, 2, 5, 16, 24])
@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_activations(name, channels):
    module, x = drawn(build_activation(name, channels), channels)
    expected = np.stack([DYNAMIC[name](module, image) for image in x.numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("channels", [4, 48])
def test_squeeze_excite(channels):
    module, x = drawn(SqueezeExcite(channels), channels)
    gates = np.stack([sigmoid(context(module, image)) for image in x.numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), x.numpy() * gates[:, :, None, None], rtol=1e-12)
    assert module.fc1.out_channels == max(1, int(channels * 0.0625))


@pytest.mark.parametrize("name", ["dynamic_relu_a", "dynamic_relu_b"])
def test_dynamic_relu_without_residuals_is_relu(name):
    module, x = drawn(build_activation(name, 6), 6)
    torch.nn.init.zeros_(module.fc2.weight)
    torch.nn.init.zeros_(module.fc2.bias)
    assert torch.equal(module(x), torch.relu(x))


def test_factory_knows_every_name_and_no_other():
    for name in ACTIVATIONS:
        x = torch.randn(2, 9, 3, 3)
        assert build_activation(name, 9)(x).shape == x.shape
    with pytest.raises(InputError, match="activation: 'mish' is not allowed; one of relu, gelu"):
        build_activation("mish", 9)
