"""Folded blocks under torch.compile: one graph, the same numbers."""

import pytest
import torch
from torch import nn

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.network import build_model, set_execution
from mobileone_core.model.spec import BlockSpec, ModelSpec


def compare(network, x, backend, rounding):
    """Outputs, gradients and statistics of two steps, compiled and not."""
    results = []
    start = {name: value.clone() for name, value in network.state_dict().items()}
    for call in (network, torch.compile(network, backend=backend, fullgraph=True)):
        network.load_state_dict(start)
        network.zero_grad()
        output = call(x)
        output.square().sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in network.parameters()])
        buffers = torch.cat([buffer.flatten().double() for buffer in network.buffers()])
        results.append((output.detach(), gradients, buffers))
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).norm() <= rounding * expected.norm()


def blocks(dtype):
    """A stem, a depthwise block at each stride, and a pointwise one."""
    torch.manual_seed(0)
    specs = [
        BlockSpec(3, 8, 3, 2, 1, 2, True, False),
        BlockSpec(8, 8, 3, 1, 8, 2, True, False),
        BlockSpec(8, 8, 3, 2, 8, 2, True, False),
        BlockSpec(8, 12, 1, 1, 1, 2, True, False),
    ]
    return set_execution(nn.Sequential(*map(MobileOneBlock, specs)), "folded").to(dtype).train()


@pytest.mark.slow
def test_a_network_compiles_without_a_break():
    torch.manual_seed(0)
    spec = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 1))
    compare(build_model(spec, 10, "folded").train(), torch.randn(4, 3, 24, 24), "aot_eager", 1e-4)


@pytest.mark.slow
def test_the_plain_ways_compile_without_a_break():
    compare(blocks(torch.float64), torch.randn(4, 3, 24, 24, dtype=torch.float64), "aot_eager", 1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:torch._inductor")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch._inductor")
def test_inductor_generates_code_that_computes_the_same():
    compare(blocks(torch.float32), torch.randn(4, 3, 24, 24), "inductor", 1e-4)
