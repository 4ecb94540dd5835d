"""Run both paths of a block on the same input, in float64 or another dtype, and compare them."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from mobileone_core.model.blocks import MobileOneBlock


@dataclass
class Trace:
    """Results of some steps: output, gradients of the input and of the parameters, and buffers."""

    output: torch.Tensor
    input_gradient: torch.Tensor
    gradients: dict
    buffers: dict


def draw_block(spec, seed=0, activation="relu", momentum=0.1, dtype=torch.float64):
    """A block in training mode with random affine parameters, running statistics and eps per branch."""
    torch.manual_seed(seed)
    block = MobileOneBlock(spec, activation).to(dtype).train()
    for index, bn in enumerate(m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        with torch.no_grad():
            bn.weight.uniform_(-2, 2)
            bn.bias.normal_()
            bn.running_mean.normal_()
        bn.eps, bn.momentum = (1e-5, 1e-3, 0.1)[index % 3], momentum
    return block


def trace(block, inputs, execution):
    """Steps of a copy of a block, forward on every input, backward from the last."""
    block = copy.deepcopy(block)
    block.execution = execution
    for x in inputs[:-1]:
        block(x)
    x = inputs[-1].clone().requires_grad_()
    output = block(x)
    generator = torch.Generator().manual_seed(7)
    output.backward(torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output))
    gradients = {name: p.grad for name, p in block.named_parameters()}
    return Trace(output.detach(), x.grad, gradients, dict(block.named_buffers()))


def distance(a, b, scale=None):
    """The norm of the difference, relative to that of b or to a scale."""
    return ((a.double() - b.double()).norm() / (b.double().norm() if scale is None else scale).clamp(min=1e-30)).item()


def errors(actual, expected):
    """Relative errors of the output, the input's gradient, all parameters' gradients together, and the worst buffer."""
    both = [(actual.gradients[name], value) for name, value in expected.gradients.items()]
    mine, theirs = (torch.cat([pair[i].flatten().double() for pair in both]) for i in (0, 1))
    buffers = [distance(actual.buffers[name], value) for name, value in expected.buffers.items()]
    return {
        "output": distance(actual.output, expected.output),
        "input": distance(
            actual.input_gradient,
            expected.input_gradient,
            torch.maximum(expected.input_gradient.norm().double(), 1e-3 * theirs.norm()),
        ),
        "parameters": distance(mine, theirs),
        "buffers": max(buffers),
    }
