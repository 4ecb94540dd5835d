"""quadratic.c as operators of torch: kernels (G, O, T) of each branch, all in float32."""

import ctypes

import torch
from torch import Tensor

from mobileone_core.model.folded.native.library import native_operator


class Size(ctypes.Structure):
    """Numbers of groups, branches, output channels per group, and taps."""

    _fields_ = [(name, ctypes.c_int64) for name in ("groups", "branches", "outputs", "taps")]


def _size(rows: list[Tensor], *_: Tensor) -> Size:
    groups, outputs, taps = rows[0].shape
    return Size(groups, len(rows), outputs, taps)


_operator = native_operator("quadratic", _size)


@_operator
def forms(rows: list[Tensor], mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """w . mean and w^T covariance w of every row: (G, B, O) each; mean (G, T), covariance (G, T, T) symmetric."""
    groups, outputs, _ = rows[0].shape
    return mean.new_empty(groups, len(rows), outputs), mean.new_empty(groups, len(rows), outputs)


@_operator
def kernel(rows: list[Tensor], factors: Tensor) -> Tensor:
    """Sum the branches' rows times their factors (G, B, O): (G, O, T)."""
    return torch.empty_like(rows[0], memory_format=torch.contiguous_format)


@_operator
def gradients(
    rows: list[Tensor], grad_weight: Tensor, covariance: Tensor, factors: Tensor, slopes: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Given the gradient of kernel(rows, factors), return those of the factors, of the rows and of the covariance.

    The gradient of a row's variance is its factor's gradient times its slope (G, B, O).
    """
    empty = [torch.empty_like(row, memory_format=torch.contiguous_format) for row in rows]
    return factors.new_empty(factors.shape), empty, covariance.new_empty(covariance.shape)
