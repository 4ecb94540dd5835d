import copy

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ACTIVATIONS, BLOCK_METHODS, BlockSpec, ModelSpec
from mobileone_core.model.weights import load_weights

torch.set_num_threads(1)


def draw_statistics(module, seed=0, spread=1.0):
    """Give every BN random statistics, affine parameters and eps: fresh ones are nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    for index, bn in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        with torch.no_grad():
            bn.running_mean.normal_(0, spread, generator=generator)
            bn.running_var.uniform_(-spread, spread, generator=generator).exp_()
            bn.weight.uniform_(-2, 2, generator=generator)
            bn.bias.normal_(generator=generator)
        bn.eps = (1e-5, 1e-3, 0.1)[index % 3]
    return module


def draw_method(draw, reparam):
    """How blocks branch, and whether it has a k."""
    method = draw(st.sampled_from(["mobileone", *BLOCK_METHODS])) if reparam else "mobileone"
    return method, reparam and method in ("mobileone", "expandnet")


@st.composite
def draw_block_spec(draw):
    width = draw(st.integers(1, 6))
    out_factor = draw(st.sampled_from([1, 1, 2]))
    groups = draw(st.sampled_from([g for g in range(1, width + 1) if width % g == 0]))
    reparam = draw(st.booleans())
    method, has_k = draw_method(draw, reparam)
    return BlockSpec(
        in_channels=width,
        out_channels=width * out_factor,
        kernel_size=draw(st.sampled_from([1, 3, 5, 7])),
        stride=draw(st.integers(1, 3)),
        groups=groups,
        k=draw(st.integers(1, 5)) if has_k else 1,
        reparam=reparam,
        se=draw(st.booleans()),
        dilation=draw(st.sampled_from([1, 1, 2, 3])),
        method=method,
    )


@st.composite
def draw_model_spec(draw):
    stages = draw(st.integers(1, 3))

    def per_stage(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(stages))

    depths, reparam = per_stage(1, 2), draw(st.booleans())
    method, has_k = draw_method(draw, reparam)
    return ModelSpec(
        widths=per_stage(1, 40),
        depths=depths,
        k=draw(st.integers(1, 4)) if has_k else 1,
        reparam=reparam,
        activation=draw(st.sampled_from(ACTIVATIONS)),
        se=tuple(draw(st.integers(0, depth)) for depth in depths),
        stem_k=draw(st.integers(1, 3)) if has_k else 1,
        stem_stride=draw(st.integers(1, 3)),
        stage_strides=per_stage(1, 3),
        in_channels=draw(st.integers(1, 4)),
        output_stride=draw(st.sampled_from([32, 16, 8])),
        block_method=method,
    )


@pytest.fixture(scope="session")
def block_specs():
    return draw_block_spec()


@pytest.fixture(scope="session")
def model_specs():
    return draw_model_spec()


@pytest.fixture(scope="session")
def randomize():
    return draw_statistics


@pytest.fixture(scope="session")
def relative_error():
    """The largest difference over the largest magnitude of what is expected."""

    def measure(actual, expected):
        assert actual.shape == expected.shape
        scale = expected.abs().max().item()
        return (actual - expected).abs().max().item() / (scale or 1.0)

    return measure


def have_same_state(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def tiny_spec(**changes):
    return ModelSpec.preset("tiny", **{"se": "paper", **changes})


def message_of_refusal(source, target=None, **options):
    """Load into a network, expect a refusal that leaves it as it was, and return the message."""
    target = target or build_model(tiny_spec(), 10)
    before = copy.deepcopy(target)
    with pytest.raises(InputError) as error:
        load_weights(target, source, **options)
    assert have_same_state(target, before)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="session")
def tiny():
    return tiny_spec


@pytest.fixture(scope="session")
def same():
    return have_same_state


@pytest.fixture(scope="session")
def refused():
    return message_of_refusal


@pytest.fixture
def model():
    """tiny with SE, 10 classes, random statistics, in evaluation mode."""
    torch.manual_seed(0)
    return draw_statistics(build_model(tiny_spec(), 10)).eval()
