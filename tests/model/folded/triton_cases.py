"""The Triton kernels against float64 patches. test_triton.py runs this file by itself: by interpretation, or on a GPU.

Triton decides once, when it is imported, whether it interprets.
"""

import copy

import pytest
import torch
from folded_blocks import draw_block, errors, trace
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mobileone_core.model.folded.block import statistics_for
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu import dispatch, layout, pointwise
from mobileone_core.model.folded.gpu.dispatch import gpu_statistics
from mobileone_core.model.folded.gpu.layout import INTERPRETED
from mobileone_core.model.folded.gpu.statistics import TritonDepthwise
from mobileone_core.model.folded.operators import OPERATORS
from mobileone_core.model.folded.patches import Patches
from mobileone_core.model.spec import BlockSpec

DEVICE = "cpu" if INTERPRETED else "cuda"
ROUNDED = {torch.float32: 2e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}  # of a norm
TILES = st.sampled_from([32, 256])  # several for the columns and channels, and one
# offset, dtype, channels-last
INPUTS = st.tuples(st.sampled_from([0.0, 3.0, 100.0]), st.sampled_from(list(ROUNDED)), st.booleans())
quick = settings(phases=[Phase.generate])  # an example takes a second: none is made smaller
BLOCKS = {
    "stride 1": BlockSpec(6, 6, 3, 1, 6, 3, True, False),
    "stride 2": BlockSpec(6, 6, 3, 2, 6, 3, True, False),
    "pointwise": BlockSpec(6, 8, 1, 1, 1, 3, True, False),
}


torch.backends.cudnn.allow_tf32 = False  # its 10 bits are not what is held to float64 here
if INTERPRETED:  # few programs, and yet two groups of images or several splits
    layout.PROGRAMS, pointwise.PROGRAMS = 2, 6


def draw(shape, offset, dtype, channels_last):
    """Numbers of this dtype, the same on every device."""
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) + offset).to(DEVICE, dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def near(actual, expected, bound):
    """Within a bound of the norm."""
    return (actual.double() - expected).norm() <= bound * expected.norm()


def hold(x, geometry):
    """The kernels' results on x are those of the patches in float64."""
    fused, plain = gpu_statistics(geometry, x), Patches(geometry)
    truth, whole = plain.moments(x.double()), x.double()
    assert all(near(*pair, 2e-5) for pair in zip(fused.moments(x), truth, strict=True))
    mean = truth.mean.float()
    grad_output = draw((len(x), geometry.out_channels, *geometry.sizes(x.shape)), 0.0, x.dtype, False)
    pairs = zip(
        fused.parameter_gradients(x, mean, grad_output),
        plain.parameter_gradients(whole, truth.mean, grad_output.double()),
        strict=True,
    )
    assert all(near(*pair, 2e-5) for pair in pairs)
    weights = torch.linspace(-1, 2, truth.covariance.numel(), device=x.device).view_as(truth.covariance)
    weights = weights + weights.transpose(1, 2)
    nothing = (torch.zeros_like(grad_output), mean.new_zeros(geometry.groups, geometry.outputs))
    no_kernel = mean.new_zeros(geometry.groups, geometry.outputs, geometry.taps)
    received = fused.input_gradient(x, mean, *nothing, no_kernel, weights)
    assert received.dtype == x.dtype
    assert received.stride() == x.stride()
    assert near(received, plain.moments_backward(whole, mean.double(), weights.double()), ROUNDED[x.dtype])
    if DEVICE == "cpu" and not x.is_contiguous():  # where torch's own gradients are not to be trusted
        return
    mean_grad = torch.linspace(-1, 1, geometry.out_channels, device=x.device).view(geometry.groups, -1)
    kernel = draw((geometry.groups, geometry.outputs, geometry.taps), 0.0, x.dtype, False).float()
    grad_input = fused.input_gradient(x, mean, grad_output, mean_grad, kernel, weights)
    others = (value.double() for value in (mean, grad_output, mean_grad, kernel, weights))
    assert near(grad_input, plain.input_gradient(whole, *others), 2 * ROUNDED[x.dtype])


@settings(quick, max_examples=5)
@given(st.sampled_from([1, 2]), st.tuples(st.integers(3, 5), st.integers(3, 6)), INPUTS, TILES)
def test_depthwise_moments_are_those_of_the_patches(stride, size, drawn, tile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "TILE", tile)
        hold(draw((2, 5, *size), *drawn), Geometry(5, 3, stride, 5, 5))


@pytest.mark.parametrize(("stride", "size"), [(1, (2, 3)), (1, (3, 2)), (2, (3, 4)), (2, (4, 3))])
def test_borders_that_meet(stride, size):
    """Images so small that a row is both next to one border and at the other."""
    hold(draw((1, 2, *size), 3.0, torch.float32, False), Geometry(2, 3, stride, 2, 2))


@settings(quick, max_examples=12)
@given(st.integers(2, 70), st.tuples(st.integers(1, 9), st.integers(1, 9)), INPUTS)
def test_pointwise_moments_are_those_of_the_channels(channels, size, drawn):
    hold(draw((8, channels, *size), *drawn), Geometry(1, 1, 1, channels, channels))


def test_an_input_with_gaps_is_served():
    x = draw((2, 6, 4, 10), 3.0, torch.float32, False)[..., ::2]
    for geometry in (Geometry(6, 3, 1, 6, 6), Geometry(1, 1, 1, 6, 6)):
        assert not x.is_contiguous()
        pairs = zip(gpu_statistics(geometry, x).moments(x), Patches(geometry).moments(x.double()), strict=True)
        assert all(near(*pair, 2e-5) for pair in pairs)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_shift_far_from_the_mean_costs_few_digits(kind):
    """The very rows that the shift is taken from lie 1000 spreads of the others away."""
    geometry = Geometry.of(BLOCKS[kind])
    x = draw((4, 6, 9, 8), 1000.0, torch.float32, False)
    x[:, :, 4] = 0
    covariance = gpu_statistics(geometry, x).moments(x).covariance.double()
    exact = Patches(geometry).moments(x.double()).covariance
    w = torch.randn(geometry.taps, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(DEVICE)
    bound = 50 * torch.finfo(torch.float32).eps * (w.abs() @ exact.abs() @ w.abs())
    assert (((covariance - exact) @ w) @ w).abs().le(bound).all()


def test_what_the_kernels_do_not_serve_is_left_to_pytorch(monkeypatch):
    x = draw((2, 6, 4, 4), 0.0, torch.float32, False)
    geometry = Geometry(6, 3, 1, 6, 6)
    assert type(statistics_for(geometry, x)) is TritonDepthwise
    assert gpu_statistics(geometry, x.double()) is None
    assert gpu_statistics(geometry, x[:, :, :1]) is None
    assert gpu_statistics(Geometry(6, 5, 1, 6, 6), x) is None
    assert gpu_statistics(Geometry(1, 1, 2, 6, 6), x) is None
    monkeypatch.setattr(dispatch, "INSTALLED", False)
    assert gpu_statistics(geometry, x) is None


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_is_as_exact_as_its_branches(kind):
    """Against float64: at most three times the branches' error."""
    block = draw_block(BLOCKS[kind], dtype=torch.float32).to(DEVICE)
    inputs = [draw((2, 6, 4, 5), 3.0, torch.float32, False)]
    truth = trace(copy.deepcopy(block).double(), [inputs[0].double()], "branches")
    folded, branches = (errors(trace(block, inputs, path), truth) for path in ("folded", "branches"))
    assert all(folded[name] <= 3 * branches[name] for name in folded), (folded, branches)


@pytest.mark.parametrize("kind", ["stride 1", "pointwise"])
def test_a_compiled_block_is_the_same(kind):
    """Without a break in its graph."""
    block = draw_block(BLOCKS[kind], dtype=torch.float32).to(DEVICE)
    block.execution = "folded"
    x, results = draw((1, 6, 3, 4), 3.0, torch.float32, False), []
    backend = "aot_eager" if INTERPRETED else "inductor"
    for call in (copy.deepcopy(block), torch.compile(copy.deepcopy(block), backend=backend, fullgraph=True)):
        leaf = x.clone().requires_grad_()
        output = call(leaf)
        output.square().sum().backward()
        results.append((output.detach(), leaf.grad))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_operators_keep_what_they_promise_to_the_compiler():
    """Schemas, and results without values."""
    x = draw((2, 3, 3, 4), 0.0, torch.float32, True)
    square, line = torch.ones(3, 3, device=DEVICE), torch.ones(3, device=DEVICE)
    given = {
        "depthwise_moments": (x, 1),
        "depthwise_parameter_gradients": (x, torch.ones(3, 9, device=DEVICE), torch.ones(2, 3, 3, 4, device=DEVICE), 1),
        "depthwise_input_gradient": (
            x,
            torch.ones(3, 9, 9, device=DEVICE),
            torch.ones(3, 9, device=DEVICE),
            torch.ones(2, 3, 2, 2, device=DEVICE),
            torch.ones(3, 1, 9, device=DEVICE),
            2,
        ),
        "pointwise_moments": (x,),
        "pointwise_parameter_gradients": (x, line, torch.ones(2, 5, 3, 4, device=DEVICE)),
        "pointwise_input_gradient": (x, line, square, line, x.clone()),
    }
    assert {name for name in OPERATORS if name.startswith("triton")} == {f"triton_{name}" for name in given}
    for name, arguments in given.items():
        torch.library.opcheck(OPERATORS[f"triton_{name}"], arguments, test_utils=("test_schema", "test_faketensor"))
