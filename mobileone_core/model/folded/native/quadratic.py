"""quadratic.c as operators of torch: kernels in rows, (G, O, T) a branch, all float32."""

import ctypes

import torch
from torch import Tensor

from mobileone_core.model.folded.native.library import call
from mobileone_core.model.folded.operators import registered


class _Size(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("groups", "branches", "outputs", "taps")]


def _size(rows: list[Tensor]) -> _Size:
    groups, outputs, taps = rows[0].shape
    return _Size(groups, len(rows), outputs, taps)


def forms(rows: list[Tensor], mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """w . mean and w^T covariance w of every row: (G, B, O) each; mean (G, T), covariance (G, T, T) symmetric."""
    found = _like_forms(rows, mean, covariance)
    call("forms", _size(rows), rows, mean, covariance, *found)
    return found


def kernel(rows: list[Tensor], factors: Tensor) -> Tensor:
    """All rows times their factors (G, B, O), summed over the branches: (G, O, T)."""
    found = _like_kernel(rows, factors)
    call("kernel", _size(rows), rows, factors, found)
    return found


def gradients(
    rows: list[Tensor], grad_weight: Tensor, covariance: Tensor, factors: Tensor, halves: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """From that to the kernel (G, O, T), the sum of all rows times their factors (G, B, O): the gradients to the
    factors, to the rows and to the covariance. What a row's variance gets is its factor's gradient times its half
    (G, B, O).
    """
    grad_factors, grad_rows, grad_covariance = found = _like_gradients(rows, grad_weight, covariance, factors, halves)
    call(
        "gradients",
        _size(rows),
        rows,
        grad_weight,
        covariance,
        factors,
        halves,
        grad_factors,
        grad_rows,
        grad_covariance,
    )
    return found


def _like_forms(rows: list[Tensor], mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    groups, outputs, _ = rows[0].shape
    return mean.new_empty(groups, len(rows), outputs), mean.new_empty(groups, len(rows), outputs)


def _like_kernel(rows: list[Tensor], factors: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(rows[0], memory_format=torch.contiguous_format)


def _like_gradients(
    rows: list[Tensor],
    grad_weight: Tensor,  # noqa: ARG001
    covariance: Tensor,
    factors: Tensor,
    halves: Tensor,  # noqa: ARG001
) -> tuple[Tensor, list[Tensor], Tensor]:
    empty = [torch.empty_like(row, memory_format=torch.contiguous_format) for row in rows]
    return factors.new_empty(factors.shape), empty, covariance.new_empty(covariance.shape)


OPERATORS = registered("quadratic", {forms: _like_forms, kernel: _like_kernel, gradients: _like_gradients})
