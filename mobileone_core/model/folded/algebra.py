"""From the moments of a block's input to its one kernel, and back: everything here is of the size of parameters."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.geometry import Geometry


class Moments(NamedTuple):
    """Of the input patch over batch and positions: mean (G, T) and covariance (G, T, T)."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Branches:
    """What a block sums, B branches: how many of them convolve with the whole kernel, whether one with 1x1 (scale),
    whether one with nothing (skip, the last); eps of every branch's BN.
    """

    kxk: int
    scale: bool
    skip: bool
    eps: tuple[float, ...]

    @property
    def convolved(self) -> int:
        return self.kxk + self.scale

    def stacked(self, parameters: tuple[Tensor, ...], geometry: Geometry, like: Tensor) -> "Stacked":
        """Weights, gammas and betas in their order, in the dtype of the moments."""
        weights, rest = list(parameters[: self.convolved]), parameters[self.convolved :]
        if self.scale:
            weights[-1] = F.pad(weights[-1], [geometry.kernel // 2] * 4)
        shape = (geometry.groups, geometry.outputs)
        kernels = torch.stack([weight.view(*shape, geometry.taps) for weight in weights], 1)
        gammas, betas = (
            torch.stack([value.view(shape) for value in values], 1).to(like.dtype)
            for values in (rest[: len(self.eps)], rest[len(self.eps) :])
        )
        return Stacked(kernels.to(like.dtype), gammas, betas)

    def parted(
        self, found: "Unfolded", to_bias: Tensor, parameters: list[Tensor], geometry: Geometry
    ) -> list[Tensor]:
        """Gradients of the parameters, in their order, from those of what was stacked of them."""
        kernels = list(found.kernels.unbind(1))
        if self.scale:
            kernels[-1] = centre(kernels[-1], geometry)
        betas = [to_bias] * len(self.eps)
        pairs = zip([*kernels, *found.gammas.unbind(1), *betas], parameters, strict=True)
        return [value.reshape(own.shape).to(own.dtype) for value, own in pairs]

    def epsilons(self, like: Tensor) -> Tensor | float:
        """eps as it is added to variances (G, B, O)."""
        if len(set(self.eps)) == 1:
            return self.eps[0]
        return torch.tensor(self.eps, dtype=like.dtype, device=like.device).view(1, -1, 1)


class Stacked(NamedTuple):
    """The parameters of a block's branches: kernels (G, B', O, T) without the skip's; gammas and betas (G, B, O)."""

    kernels: Tensor
    gammas: Tensor
    betas: Tensor


class Folded(NamedTuple):
    """kernel (G, O, T) over patches less their mean, bias (G, O) of all branches; of every branch the batch mean and
    biased variance, and one over its standard deviation: (G, B, O).
    """

    kernel: Tensor
    bias: Tensor
    means: Tensor
    variances: Tensor
    scales: Tensor


def centre(values: Tensor, geometry: Geometry) -> Tensor:
    """Of (..., T) the centre tap of every channel of the group: (..., C / G), a view."""
    return values[..., geometry.area // 2 :: geometry.area]


def diagonal(kernels: Tensor, geometry: Geometry) -> Tensor:
    """Where the skip branch has its ones in kernels (G, O, T): (G, O), a view."""
    return centre(kernels, geometry).diagonal(dim1=-2, dim2=-1)


def fold(moments: Moments, branches: Branches, stacked: Stacked, geometry: Geometry) -> Folded:
    """W = sum_i a_i w_i with a_i = gamma_i / sqrt(w_i^T S w_i + eps_i)."""
    mean, covariance = moments
    kernels, gammas, betas = stacked
    groups, convolved, outputs, taps = kernels.shape
    rows = kernels.view(groups, convolved * outputs, taps)
    means = torch.bmm(rows, mean.unsqueeze(-1)).view(groups, convolved, outputs)
    variances = torch.bmm(rows, covariance).mul_(rows).sum(-1).view(groups, convolved, outputs)
    if branches.skip:
        own = centre(covariance.diagonal(dim1=-2, dim2=-1), geometry)
        means = torch.cat((means, centre(mean, geometry).unsqueeze(1)), 1)
        variances = torch.cat((variances, own.unsqueeze(1)), 1)
    variances = variances.clamp_(min=0)
    scales = (variances + branches.epsilons(mean)).rsqrt_()
    factors = gammas * scales
    kernel = _weighted_sum(factors[:, :convolved], kernels)
    if branches.skip:
        diagonal(kernel, geometry).add_(factors[:, -1])
    return Folded(kernel, betas.sum(1), means, variances, scales)


class Unfolded(NamedTuple):
    """Gradients: to the covariance (G, T, T), the kernels (G, B', O, T) and the gammas (G, B, O)."""

    covariance: Tensor
    kernels: Tensor
    gammas: Tensor


def unfold(moments: Moments, scales: Tensor, stacked: Stacked, to_kernel: Tensor, geometry: Geometry) -> Unfolded:
    """The gradients of fold, from that to its kernel. Those to the betas are the bias's; none reaches the mean."""
    kernels, gammas, _ = stacked
    groups, convolved, outputs, taps = kernels.shape
    to_factors = _products(kernels, to_kernel)
    skip = gammas.shape[1] > convolved
    if skip:
        to_factors = torch.cat((to_factors, diagonal(to_kernel, geometry).unsqueeze(1)), 1)
    factors = gammas * scales
    to_variances = to_factors * factors * scales.square() * -0.5
    weighted = (to_variances[:, :convolved].unsqueeze(-1) * kernels).view(groups, convolved * outputs, taps)
    to_covariance = torch.bmm(kernels.view(groups, convolved * outputs, taps).transpose(1, 2), weighted)
    if skip:
        centre(to_covariance.diagonal(dim1=-2, dim2=-1), geometry).add_(to_variances[:, -1])
    to_kernels = (factors[:, :convolved].unsqueeze(-1) * to_kernel.unsqueeze(1)).view_as(weighted)
    to_kernels = to_kernels.baddbmm_(weighted, moments.covariance, alpha=2)
    return Unfolded(to_covariance, to_kernels.view_as(kernels), to_factors * scales)


def _weighted_sum(factors: Tensor, kernels: Tensor) -> Tensor:
    """sum of factors (G, B', O) times kernels (G, B', O, T): (G, O, T)."""
    if factors.shape[2] == 1:
        return torch.bmm(factors.transpose(1, 2), kernels.squeeze(2))
    total = factors[:, 0].unsqueeze(-1) * kernels[:, 0]
    for branch in range(1, factors.shape[1]):
        total.addcmul_(factors[:, branch].unsqueeze(-1), kernels[:, branch])
    return total


def _products(kernels: Tensor, other: Tensor) -> Tensor:
    """sum over taps of kernels (G, B', O, T) times other (G, O, T): (G, B', O)."""
    if kernels.shape[2] == 1:
        return torch.bmm(kernels.squeeze(2), other.transpose(1, 2))
    return (kernels * other.unsqueeze(1)).sum(-1)
