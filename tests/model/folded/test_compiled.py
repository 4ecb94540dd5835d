"""The compiled depthwise operators against patches in float64, and dispatch without a compiler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mobileone_core.model.folded.block import statistics_for
from mobileone_core.model.folded.columns import Columns
from mobileone_core.model.folded.compiled import Compiled
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.lags import Lags
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.operators import OPERATORS
from mobileone_core.model.folded.patches import Patches

CLOSE = 5e-6  # of a norm, in float32
compiler = pytest.mark.skipif(not available(), reason="no C compiler")


def draw(shape, stride, offset, seed):
    """Geometry and x, mean, grad_output, mean_grad, kernel, weights, bias in float32."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    geometry = Geometry(channels, 3, stride, channels, channels)

    def random(*size):
        return torch.randn(size, generator=generator)

    x = random(*shape) + offset
    weights = random(channels, 9, 9)
    grad_output = random(*shape[:2], *geometry.sizes(x.shape))
    others = (random(channels, 1), random(channels, 1, 9), weights + weights.transpose(1, 2), random(channels, 1))
    return geometry, (x, grad_output, *others)


def everything(statistics, x, grad_output, *others):
    """All results of one kind of statistics."""
    mean_grad, kernel, weights, bias = others
    mean, covariance = statistics.moments(x)
    gradients = statistics.parameter_gradients(x, mean, grad_output)
    grad_input = statistics.input_gradient(x, mean, grad_output, mean_grad, kernel, weights)
    return [mean, covariance, statistics.convolve(x, mean, kernel, bias), *gradients, grad_input]


@compiler
@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 3), st.integers(1, 20), st.integers(1, 40)),
    stride=st.integers(1, 2),
    offset=st.sampled_from([0.0, 3.0, 30.0]),
    seed=st.integers(0, 999),
)
def test_operators_are_those_of_the_patches(shape, stride, offset, seed):
    """Rows narrower and wider than a line, odd and even sizes, a single row or column."""
    geometry, values = draw(shape, stride, offset, seed)
    expected = everything(Patches(geometry), *(value.double() for value in values))
    rounding = 2 * CLOSE * (1 + offset) ** 2  # of what padding adds: all that a tap sees where there is one row
    for actual, value in zip(everything(Compiled(geometry), *values), expected, strict=True):
        assert (actual - value).norm() <= CLOSE * value.norm() + rounding


@compiler
def test_results_do_not_depend_on_the_number_of_threads():
    geometry, values = draw((5, 7, 20, 30), 1, 1.0, 0)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(everything(Compiled(geometry), *values))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@compiler
def test_inputs_in_another_layout_are_read_as_they_are():
    geometry, (x, *others) = draw((3, 4, 6, 6), 1, 0.0, 1)
    plain = everything(Compiled(geometry), x, *others)
    last = everything(Compiled(geometry), x.contiguous(memory_format=torch.channels_last), *others)
    assert all(torch.equal(a, b) for a, b in zip(plain, last, strict=True))


@compiler
@pytest.mark.parametrize("size", [2, 4, 8, 9, 16, 40])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_offset_costs_no_digits_of_the_variance_that_the_centre_sees(size, stride):
    """The centre sees no padding, whose distance from the rest would hide what it loses."""
    geometry, (x, *_) = draw((16, 3, size, size), stride, 1000.0, 5)
    actual, expected = (
        statistics.moments(given) for statistics, given in ((Compiled(geometry), x), (Patches(geometry), x.double()))
    )
    torch.testing.assert_close(actual.covariance[:, 4, 4].double(), expected.covariance[:, 4, 4], rtol=1e-6, atol=0)


@compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_operators_match_their_schemas_and_fakes(stride):
    geometry, (x, grad_output, mean_grad, kernel, weights, bias) = draw((2, 3, 5, 6), stride, 0.0, 2)
    mean = Compiled(geometry).moments(x).mean
    given = {
        "moments": (x,),
        "convolve": (x, mean, kernel, bias),
        "parameter_gradients": (x, mean, grad_output),
        "input_gradient": (x, mean, grad_output, mean_grad, kernel, weights),
    }
    checks = ("test_schema", "test_faketensor")
    for name, arguments in given.items():
        torch.library.opcheck(OPERATORS[f"depthwise_{name}"], (*arguments, stride), test_utils=checks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_without_a_compiler_the_plain_way_serves(monkeypatch, dtype, stride):
    monkeypatch.setattr("mobileone_core.model.folded.block.available", lambda: False)
    geometry, values = draw((3, 2, 7, 9), stride, 1.0, 3)
    statistics = statistics_for(geometry, values[0].to(dtype))
    assert type(statistics) is (Lags if stride == 1 else Columns)
    expected = everything(Patches(geometry), *(value.double() for value in values))
    for actual, value in zip(everything(statistics, *(value.to(dtype) for value in values)), expected, strict=True):
        assert (actual - value).norm() <= CLOSE * value.norm()


def test_a_depthwise_layer_is_one_convolution_after_all():
    """The library's own convolution, for a kernel on patches less their mean."""
    geometry, (x, _, _, kernel, _, bias) = draw((2, 3, 6, 7), 2, 2.0, 4)
    statistics = statistics_for(geometry, x)
    mean = statistics.moments(x).mean
    expected = F.conv2d(x.double(), kernel.view(3, 1, 3, 3).double(), bias.view(3).double(), 2, 1, groups=3)
    offset = (kernel.double() @ mean.double().unsqueeze(-1)).view(1, 3, 1, 1)
    torch.testing.assert_close(
        statistics.convolve(x, mean, kernel, bias).double(), expected - offset, rtol=1e-5, atol=1e-5
    )
