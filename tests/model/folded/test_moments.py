"""Moments by batched products against the plain way through patches, and against exact integers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mobileone_core.model.folded.block import statistics_for
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.patches import Patches

POINTWISE, DEPTHWISE, STRIDED = Geometry(1, 1, 1, 6, 6), Geometry(6, 3, 1, 6, 6), Geometry(6, 3, 2, 6, 6)
DENSE = Geometry(1, 3, 2, 6, 6)


@settings(max_examples=60)
@given(
    geometry=st.sampled_from([POINTWISE, DEPTHWISE, STRIDED]),
    shape=st.tuples(st.integers(2, 3), st.integers(1, 20), st.integers(1, 40)),
    offset=st.sampled_from([0.0, 3.0, 100.0]),
)
def test_moments_and_what_they_send_back_are_those_of_the_patches(geometry, shape, offset):
    """Wide enough for several blocks of columns, and for widths that only small blocks divide."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape[0], 6, *shape[1:], generator=generator, dtype=torch.float64) + offset
    grad_output = (len(x), geometry.out_channels, *geometry.sizes(x.shape))
    grad_weight = (geometry.groups, geometry.outputs, geometry.taps)
    results = []
    for statistics in (statistics_for(geometry, x), Patches(geometry)):
        mean, covariance = statistics.moments(x)
        weights = torch.linspace(-1, 2, covariance.numel(), dtype=torch.float64).view_as(covariance)
        nothing = (x.new_zeros(shape) for shape in (grad_output, (geometry.groups, geometry.outputs), grad_weight))
        results.append(
            (mean, covariance, statistics.input_gradient(x, mean, *nothing, weights + weights.transpose(1, 2)))
        )
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def exact_covariance(x, geometry, group, unit):
    """The covariance of a group's taps of integers x * unit, summed without rounding: (T, T)."""
    padded = F.pad(x, [geometry.kernel // 2] * 4)
    patches = padded.unfold(2, geometry.kernel, geometry.stride).unfold(3, geometry.kernel, geometry.stride)
    patches = patches.permute(1, 4, 5, 0, 2, 3).reshape(geometry.groups, geometry.taps, -1)
    taps = (patches[group] * unit).long().tolist()
    count, sums = len(taps[0]), [sum(tap) for tap in taps]
    rows = [
        [count * sum(map(int.__mul__, a, b)) - sums[i] * sums[j] for j, b in enumerate(taps)]
        for i, a in enumerate(taps)
    ]
    return torch.tensor([[value / (count * unit) ** 2 for value in row] for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("geometry", [POINTWISE, DEPTHWISE, STRIDED, DENSE])
@pytest.mark.parametrize("offset", [0, 10**2, 10**4, 10**6, 10**8])
def test_the_variance_keeps_its_digits_at_any_conditioning(geometry, offset):
    """Within 50 roundings of |w|^T |S| |w|."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-512, 513, (3, 6, 8, 8), generator=generator).double() / 512 + offset
    covariance = statistics_for(geometry, x).moments(x).covariance
    w = torch.randn(geometry.taps, generator=generator, dtype=torch.float64)
    for group in range(min(2, geometry.groups)):
        exact = exact_covariance(x, geometry, group, 512)
        bound = 50 * torch.finfo(torch.float64).eps * (w.abs() @ exact.abs() @ w.abs())
        assert abs(w @ covariance[group] @ w - w @ exact @ w) < bound


@pytest.mark.parametrize(
    "geometry",
    [POINTWISE, Geometry(1, 1, 1, 100, 9), DEPTHWISE, STRIDED, DENSE, Geometry(1, 3, 1, 16, 9)],
)
def test_few_values_among_zeros_keep_the_digits_of_their_variance(geometry):
    """Channels that are nearly always 0 behind a ReLU: within 8 roundings of float32, where there were 120."""
    generator = torch.Generator().manual_seed(0)
    shape = (16, geometry.in_channels, 32, 32)
    x = 10 * torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.002)
    results, exact = (statistics_for(geometry, values).moments(values).covariance for values in (x, x.double()))
    variances = exact.diagonal(dim1=1, dim2=2)
    errors = (results.double().diagonal(dim1=1, dim2=2) - variances).abs() / variances
    assert errors.max() < 8 * torch.finfo(torch.float32).eps / 2
