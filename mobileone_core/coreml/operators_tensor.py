"""Operators that combine values along axes: products, reductions, normalization."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, operator

REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}


@operator(*REDUCTIONS)
def reduce(inputs: Inputs) -> Tensor:
    """Reduce x over axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    return REDUCTIONS[inputs.kind](x, axes, inputs.flag("keep_dims"))


@operator("linear")
def linear(inputs: Inputs) -> Tensor:
    """Linear layer with weight (out, in) and bias (out)."""
    return F.linear(inputs.tensor("x"), inputs.tensor("weight"), inputs.optional("bias"))


@operator("matmul")
def matmul(inputs: Inputs) -> Tensor:
    """Matrix product of x and y, each optionally transposed."""
    x, y = inputs.tensor("x"), inputs.tensor("y")
    x = x.transpose(-1, -2) if inputs.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if inputs.flag("transpose_y") else y)


@operator("softmax")
def softmax(inputs: Inputs) -> Tensor:
    """Softmax of x along an axis."""
    return inputs.tensor("x").softmax(int(inputs.number("axis", -1)))


@operator("layer_norm")
def layer_norm(inputs: Inputs) -> Tensor:
    """Layer normalization over the last axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    if sorted(axis % x.dim() for axis in axes) != list(range(x.dim() - len(axes), x.dim())):
        raise inputs.refusal("axes", axes, "supported: the last axes")
    gamma, beta = inputs.optional("gamma"), inputs.optional("beta")
    return F.layer_norm(x, x.shape[x.dim() - len(axes) :], gamma, beta, inputs.number("epsilon", 1e-5))


@operator("batch_norm")
def batch_norm(inputs: Inputs) -> Tensor:
    """Batch normalization with given statistics."""
    mean, variance = inputs.tensor("mean"), inputs.tensor("variance")
    gamma, beta = inputs.optional("gamma"), inputs.optional("beta")
    return F.batch_norm(inputs.tensor("x"), mean, variance, gamma, beta, eps=inputs.number("epsilon", 1e-5))


@operator("instance_norm")
def instance_norm(inputs: Inputs) -> Tensor:
    """Instance normalization."""
    gamma, beta = inputs.optional("gamma"), inputs.optional("beta")
    return F.instance_norm(inputs.tensor("x"), weight=gamma, bias=beta, eps=inputs.number("epsilon", 1e-5))


@operator("einsum")
def einsum(inputs: Inputs) -> Tensor:
    """Einstein summation of values."""
    equation = inputs.values.get("equation")
    if not isinstance(equation, str):
        raise inputs.refusal("equation", equation, "expected a string")
    inputs.read.add("equation")
    return torch.einsum(equation, inputs.tensors("values"))
