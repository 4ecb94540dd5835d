"""Operators that combine values along axes: products, reductions, normalization."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, operator, register

REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}


register(
    {
        "linear": lambda op: F.linear(op.tensor("x"), op.tensor("weight"), op.optional("bias")),
        "softmax": lambda op: op.tensor("x").softmax(int(op.number("axis", -1))),
        "batch_norm": lambda op: F.batch_norm(
            op.tensor("x"), op.tensor("mean"), op.tensor("variance"), *_affine(op), eps=op.number("epsilon", 1e-5)
        ),
        "instance_norm": lambda op: F.instance_norm(
            op.tensor("x"), None, None, *_affine(op), eps=op.number("epsilon", 1e-5)
        ),
    }
)


def _affine(inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    """Return the optional weight and bias of a normalization."""
    return inputs.optional("gamma"), inputs.optional("beta")


@operator(*REDUCTIONS)
def reduce(inputs: Inputs) -> Tensor:
    """Reduce x over axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    return REDUCTIONS[inputs.kind](x, axes, inputs.flag("keep_dims"))


@operator("matmul")
def matmul(inputs: Inputs) -> Tensor:
    """Matrix product of x and y, each optionally transposed."""
    x, y = inputs.tensor("x"), inputs.tensor("y")
    x = x.transpose(-1, -2) if inputs.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if inputs.flag("transpose_y") else y)


@operator("layer_norm")
def layer_norm(inputs: Inputs) -> Tensor:
    """Layer normalization over the last axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    if sorted(axis % x.dim() for axis in axes) != list(range(x.dim() - len(axes), x.dim())):
        raise inputs.refusal("axes", axes, "supported: the last axes")
    return F.layer_norm(x, x.shape[x.dim() - len(axes) :], *_affine(inputs), inputs.number("epsilon", 1e-5))


@operator("einsum")
def einsum(inputs: Inputs) -> Tensor:
    """Einstein summation of values."""
    equation = inputs.values.get("equation")
    if not isinstance(equation, str):
        raise inputs.refusal("equation", equation, "expected a string")
    inputs.read.add("equation")
    return torch.einsum(equation, inputs.tensors("values"))
