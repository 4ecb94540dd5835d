"""Turns moments of a block's input into its one kernel, and back: every tensor here has the size of parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.native import quadratic as native
from mobileone_core.model.folded.native.library import available


class Moments(NamedTuple):
    """Mean (G, T) and covariance (G, T, T) of the input patch over batch and positions."""

    mean: Tensor
    covariance: Tensor


class Stacked(NamedTuple):
    """Parameters of a block's branches: kernels (G, O, T) of each but the skip branch; gammas (G, B, O) of all."""

    kernels: tuple[Tensor, ...]
    gammas: Tensor


class FoldedKernel(NamedTuple):
    """kernel (G, O, T) over centred patches; batch mean, biased variance and 1 / std of every branch, (G, B, O)."""

    kernel: Tensor
    means: Tensor
    variances: Tensor
    scales: Tensor


@dataclass(frozen=True)
class Branches:
    """The branches of a block: whether it has a scale branch (1x1) and a skip branch, and eps of every branch's BN.

    The scale branch is the last one with a convolution, the skip branch the last of all.
    """

    scale: bool
    skip: bool
    eps: tuple[float, ...]

    def stack(self, weights: Sequence[Tensor], gammas: Tensor, geometry: Geometry, like: Tensor) -> Stacked:
        """Bring weights, in the branches' order, and gammas (B, C_out) to the shapes of Stacked and to like's dtype."""
        weights = list(weights)
        if self.scale:
            weights[-1] = F.pad(weights[-1], [geometry.kernel // 2] * 4)
        shape = (geometry.groups, geometry.outputs, geometry.taps)
        kernels = tuple(_in_dtype(weight.reshape(shape), like) for weight in weights)
        return Stacked(kernels, _in_dtype(gammas.view(-1, *shape[:2]).transpose(0, 1), like))

    def unstack(self, kernels: Sequence[Tensor], weights: Sequence[Tensor], geometry: Geometry) -> list[Tensor]:
        """Bring gradients of the stacked kernels to the shapes and dtypes of the branches' weights."""
        kernels = list(kernels)
        if self.scale:
            kernels[-1] = centre(kernels[-1], geometry)
        pairs = zip(kernels, weights, strict=True)
        return [_in_dtype(kernel.reshape(weight.shape), weight) for kernel, weight in pairs]

    def epsilons(self, like: Tensor) -> Tensor | float:
        """Each branch's eps, as it is added to variances (G, B, O)."""
        if len(set(self.eps)) == 1:
            return self.eps[0]
        return torch.tensor(self.eps, dtype=like.dtype, device=like.device).view(1, -1, 1)


def centre(values: Tensor, geometry: Geometry) -> Tensor:
    """The centre tap of every channel of the group: a view (..., C / G) of values (..., T)."""
    return values[..., geometry.area // 2 :: geometry.area]


def skip_diagonal(kernels: Tensor, geometry: Geometry) -> Tensor:
    """The entries of kernels (G, O, T) that are 1 in the skip branch's kernel: a view (G, O)."""
    return kernels.flatten(1)[:, geometry.area // 2 :: geometry.taps + geometry.area]


def centre_variances(covariance: Tensor, geometry: Geometry) -> Tensor:
    """Variances of the centre taps, on the diagonal of covariance (G, T, T): a view (G, C / G)."""
    return centre(covariance.flatten(1)[:, :: geometry.taps + 1], geometry)


def fold(moments: Moments, branches: Branches, stacked: Stacked, geometry: Geometry) -> FoldedKernel:
    """Fold all branches into one kernel: W = sum_i a_i w_i with a_i = gamma_i / sqrt(w_i^T S w_i + eps_i)."""
    mean, covariance = moments
    means, variances = quadratic_forms(stacked, mean, covariance)
    if branches.skip:
        means = torch.cat((means, centre(mean, geometry).unsqueeze(1)), 1)
        variances = torch.cat((variances, centre_variances(covariance, geometry).unsqueeze(1)), 1)
    variances = variances.clamp_(min=0)
    scales = (variances + branches.epsilons(mean)).rsqrt_()
    factors = stacked.gammas * scales
    kernel = weighted_sum(stacked, factors)
    if branches.skip:
        skip_diagonal(kernel, geometry).add_(factors[:, -1])
    return FoldedKernel(kernel, means, variances, scales)


def fold_backward(
    moments: Moments, scales: Tensor, stacked: Stacked, grad_weight: Tensor, geometry: Geometry
) -> tuple[Tensor, Sequence[Tensor], Tensor]:
    """The gradients of fold, given that of its kernel (G, O, T): to covariance (G, T, T), kernels and gammas (G, B, O).

    The betas' gradient is that of the bias. The mean receives none: patches are centred before the kernel meets them.
    """
    factors = stacked.gammas * scales
    slopes = factors * scales.square() * -0.5  # of a factor as its variance changes
    grad_factors, grad_kernels, grad_covariance = quadratic_gradients(
        stacked, grad_weight, moments.covariance, factors, slopes
    )
    if stacked.gammas.shape[1] > grad_factors.shape[1]:
        grad_skip = skip_diagonal(grad_weight, geometry)
        centre_variances(grad_covariance, geometry).add_(grad_skip * slopes[:, -1])
        grad_factors = torch.cat((grad_factors, grad_skip.unsqueeze(1)), 1)
    return grad_covariance, grad_kernels, grad_factors * scales


def weighted_sum(stacked: Stacked, factors: Tensor) -> Tensor:
    """Sum the branches' kernels times their factors (G, B, O): (G, O, T)."""
    if _is_native(factors):
        return native.kernel(list(stacked.kernels), factors[:, : len(stacked.kernels)])
    pairs = list(zip(_per_piece(factors, stacked), _pieces(stacked), strict=True))
    total = torch.mul(*pairs[0])
    for pair in pairs[1:]:
        total.addcmul_(*pair)
    outputs = factors.shape[2]
    return total.view(len(total), -1, outputs, total.shape[-1]).sum(1) if total.shape[1] > outputs else total


def quadratic_forms(stacked: Stacked, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """w . mean and w^T covariance w of every kernel: (G, B, O) each, without the skip branch."""
    if _is_native(covariance):
        return native.forms(list(stacked.kernels), mean, covariance)
    column, pieces = mean.unsqueeze(-1), _pieces(stacked)
    means = [torch.bmm(kernels, column).squeeze(-1) for kernels in pieces]
    variances = [torch.bmm(kernels, covariance).mul_(kernels).sum(-1) for kernels in pieces]
    return _by_branch(means, stacked), _by_branch(variances, stacked)


def quadratic_gradients(
    stacked: Stacked, grad_weight: Tensor, covariance: Tensor, factors: Tensor, slopes: Tensor
) -> tuple[Tensor, Sequence[Tensor], Tensor]:
    """The gradients of weighted_sum and of the variances, given the gradient of the sum (G, O, T).

    Returns those of the factors (G, B, O, without the skip branch), of the kernels, and of the covariance (G, T, T),
    which is symmetric. The gradient of a kernel's variance is its factor's times its slope (G, B, O).
    """
    count, outputs = len(stacked.kernels), factors.shape[2]
    if _is_native(covariance):
        return native.gradients(list(stacked.kernels), grad_weight, covariance, factors[:, :count], slopes[:, :count])
    grad_factors, grad_kernels = [], []
    grad_covariance = torch.zeros_like(covariance)
    values = (_per_piece(factors, stacked), _per_piece(slopes, stacked), _pieces(stacked))
    if len(values[2]) == 1 and outputs > 1:
        grad_weight = grad_weight.repeat(1, count, 1)
    for factor, slope, kernels in zip(*values, strict=True):
        grad_factor = (kernels * grad_weight).sum(-1)
        weighted = grad_factor.unsqueeze(-1) * slope * kernels
        grad_covariance.baddbmm_(kernels.transpose(1, 2), weighted)
        grad_kernels.append((factor * grad_weight).baddbmm_(weighted, covariance, alpha=2))
        grad_factors.append(grad_factor)
    by_branch = grad_kernels if len(grad_kernels) == count else torch.split(grad_kernels[0], outputs, 1)
    return _by_branch(grad_factors, stacked), by_branch, grad_covariance


def _is_native(like: Tensor) -> bool:
    """Whether the compiled operators take tensors of this device and dtype."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and available()


def _piece_count(stacked: Stacked) -> int:
    """One piece per branch on a CPU, whose algebra then stays in the cache; a single one elsewhere and where O is 1."""
    by_branch = stacked.gammas.shape[2] > 1 and stacked.gammas.device.type == "cpu"
    return len(stacked.kernels) if by_branch else 1


def _pieces(stacked: Stacked) -> tuple[Tensor, ...]:
    """The branches' kernels in pieces (G, n, T)."""
    return (torch.cat(stacked.kernels, 1),) if _piece_count(stacked) == 1 else stacked.kernels


def _per_piece(values: Tensor, stacked: Stacked) -> list[Tensor]:
    """Values (G, B, O), cut as the pieces are: (G, n, 1) each."""
    parts = values[:, : len(stacked.kernels)].chunk(_piece_count(stacked), 1)
    return [part.flatten(1).unsqueeze(-1) for part in parts]


def _by_branch(values: list[Tensor], stacked: Stacked) -> Tensor:
    """Values (G, n) of the pieces, joined: (G, B, O) without the skip branch."""
    joined = torch.cat(values, 1) if len(values) > 1 else values[0]
    return joined.view(len(joined), -1, stacked.gammas.shape[2])


def _in_dtype(values: Tensor, like: Tensor) -> Tensor:
    """Values in the dtype of like: where they have it, comparing is cheaper than one call per branch."""
    return values if values.dtype == like.dtype else values.to(like.dtype)
