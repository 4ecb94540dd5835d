"""One convolution a block computes what its branches do: outputs, gradients and running statistics, in float64."""

import pytest
import torch
from folded_blocks import draw_block, errors, trace
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.spec import BlockSpec

EXACT = 1e-9


@st.composite
def block_specs(draw):
    """Pointwise, depthwise and dense blocks: every stride, dilation and k, with and without re-parameterization."""
    kind = draw(st.sampled_from(["pointwise", "depthwise", "dense", "grouped"]))
    channels = draw(st.sampled_from([2, 4, 6]))
    groups = {"pointwise": 1, "depthwise": channels, "dense": 1, "grouped": 2}[kind]
    out = channels if kind == "depthwise" else draw(st.sampled_from([channels, 2 * channels]))
    kernel = 1 if kind == "pointwise" else draw(st.sampled_from([3, 5]))
    stride = draw(st.sampled_from([1, 2, 3]))
    k, reparam, se = draw(st.integers(1, 5)), draw(st.booleans()), draw(st.booleans())
    method = draw(st.sampled_from(["mobileone", "mobileone", "acnet", "expandnet"])) if reparam else "mobileone"
    dilation = draw(st.sampled_from([1, 1, 2, 3]))
    return BlockSpec(channels, out, kernel, stride, groups, k, reparam, se, dilation, method=method)


@st.composite
def inputs_of(draw, channels):
    """Two batches whose channels' means are up to 100 of their spreads; some constant, some dead."""
    shape = (draw(st.integers(2, 4)), channels, draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    offset = draw(st.sampled_from([0.0, 1.0, 10.0, 100.0]))
    batches = [torch.randn(shape, generator=generator, dtype=torch.float64) + offset for _ in range(2)]
    dead = draw(st.sampled_from([None, 0.0, 1.0]))
    if dead is not None:
        for batch in batches:
            batch[:, 0] = dead
    return batches


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_outputs_gradients_and_statistics_are_those_of_the_branches(data):
    spec = data.draw(block_specs())
    inputs = data.draw(inputs_of(spec.in_channels))
    momentum = data.draw(st.sampled_from([0.1, 0.5, None]))
    activation = data.draw(st.sampled_from(["relu", "gelu", "dynamic_shift_max"]))
    block = draw_block(spec, data.draw(st.integers(0, 99)), activation, momentum)
    results = errors(trace(block, inputs, "folded"), trace(block, inputs, "branches"))
    assert max(results.values()) < EXACT, results


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_single_value_a_channel_is_refused_as_batch_norm_refuses_it(kernel):
    block = draw_block(BlockSpec(4, 4, kernel, 1, 1, 2, True, False))
    x = torch.randn(1, 4, 1, 1, dtype=torch.float64)
    for execution in ("branches", "folded"):
        block.execution = execution
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            block(x)


@pytest.mark.parametrize("scale", [1e-20, 1e20, 1e30])
def test_nothing_overflows_or_turns_nan_that_does_not_in_the_branches(scale):
    block = draw_block(BlockSpec(4, 4, 3, 1, 4, 3, True, False))
    inputs = [scale * torch.randn(2, 4, 5, 5, dtype=torch.float64)]
    results = trace(block, inputs, "folded")
    assert all(
        value.isfinite().all() for value in (results.output, results.input_gradient, *results.gradients.values())
    )


def test_frozen_statistics_run_through_the_branches():
    """In evaluation, and where one branch's BN is frozen: both paths are the same computation."""
    block = draw_block(BlockSpec(4, 4, 3, 1, 4, 2, True, False))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    block.conv_kxk[0].bn.eval()
    outputs = []
    for execution in ("branches", "folded"):
        block.execution = execution
        outputs.append(block(x))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


def test_a_second_derivative_is_refused_in_words():
    block = draw_block(BlockSpec(4, 4, 1, 1, 1, 2, True, False))
    block.execution = "folded"
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_under_autocast_it_is_no_worse_than_the_branches():
    """bfloat16 against float64 truth, with means of 30 spreads: the median over blocks of the errors' ratio."""
    ratios = []
    for seed in range(9):
        block = draw_block(BlockSpec(16, 16, 1, 1, 1, 4, True, False), seed, dtype=torch.float32)
        x = torch.randn(4, 16, 6, 6, generator=torch.Generator().manual_seed(seed)) + 30
        truth = MobileOneBlock(block.spec).double().train()
        truth.load_state_dict(block.state_dict())
        for mine, theirs in zip(truth.modules(), block.modules(), strict=True):
            if isinstance(theirs, torch.nn.BatchNorm2d):
                mine.eps = theirs.eps
        expected = truth(x.double()).detach()
        results = []
        for execution in ("folded", "branches"):
            block.execution = execution
            with torch.autocast("cpu", torch.bfloat16):
                output = block(x).detach().double()
            results.append(float((output - expected).norm() / expected.norm()))
        ratios.append(results[0] / results[1])
    assert sorted(ratios)[4] < 1.0
