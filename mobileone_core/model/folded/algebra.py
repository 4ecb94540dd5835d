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
        rows = [weight.reshape(*shape, geometry.taps).to(like.dtype) for weight in weights]
        if geometry.outputs == 1:
            rows = [torch.cat(rows, 1)]
        gammas, betas = (
            torch.stack([value.view(shape) for value in values], 1).to(like.dtype)
            for values in (rest[: len(self.eps)], rest[len(self.eps) :])
        )
        return Stacked(tuple(rows), gammas, betas)

    def parted(self, found: "Unfolded", to_bias: Tensor, parameters: list[Tensor], geometry: Geometry) -> list[Tensor]:
        """Gradients of the parameters, in their order, from those of what was stacked of them."""
        kernels = list(found.rows if geometry.outputs > 1 else found.rows[0].unsqueeze(2).unbind(1))
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
    """The parameters of a block's branches, the skip's kernel left out: rows of kernels; gammas and betas (G, B, O).

    rows are (G, n, T): one a branch with n = O, so that its algebra stays in the cache; where O is 1, one of all
    branches with n = B'.
    """

    rows: tuple[Tensor, ...]
    gammas: Tensor
    betas: Tensor

    def by_row(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (G, B, O) of the branches as they belong to rows: (G, n, 1) each."""
        if values.shape[2] == 1:
            return (values[:, : self.rows[0].shape[1]],)
        return tuple(values[:, branch].unsqueeze(-1) for branch in range(len(self.rows)))

    def by_branch(self, values: list[Tensor]) -> Tensor:
        """The reverse, of values (G, n): (G, B', O)."""
        return values[0].unsqueeze(-1) if self.gammas.shape[2] == 1 else torch.stack(values, 1)

    def summed(self, factors: Tensor) -> Tensor:
        """All rows times their branch's factor (G, B, O): (G, O, T)."""
        first, *others = list(zip(self.by_row(factors), self.rows, strict=True))
        if factors.shape[2] == 1:
            return torch.bmm(first[0].transpose(1, 2), first[1])
        total = first[0] * first[1]
        for factor, rows in others:
            total.addcmul_(factor, rows)
        return total


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
    return kernels.flatten(1)[:, geometry.area // 2 :: geometry.taps + geometry.area]


def variances_of(covariance: Tensor, geometry: Geometry) -> Tensor:
    """Of (G, T, T) those of the centre taps: (G, C / G), a view."""
    return centre(covariance.flatten(1)[:, :: geometry.taps + 1], geometry)


def fold(moments: Moments, branches: Branches, stacked: Stacked, geometry: Geometry) -> Folded:
    """W = sum_i a_i w_i with a_i = gamma_i / sqrt(w_i^T S w_i + eps_i)."""
    mean, covariance = moments
    column = mean.unsqueeze(-1)
    means = stacked.by_branch([torch.bmm(rows, column).squeeze(-1) for rows in stacked.rows])
    variances = stacked.by_branch([torch.bmm(rows, covariance).mul_(rows).sum(-1) for rows in stacked.rows])
    if branches.skip:
        own = variances_of(covariance, geometry)
        means = torch.cat((means, centre(mean, geometry).unsqueeze(1)), 1)
        variances = torch.cat((variances, own.unsqueeze(1)), 1)
    variances = variances.clamp_(min=0)
    scales = (variances + branches.epsilons(mean)).rsqrt_()
    factors = stacked.gammas * scales
    kernel = stacked.summed(factors)
    if branches.skip:
        diagonal(kernel, geometry).add_(factors[:, -1])
    return Folded(kernel, stacked.betas.sum(1), means, variances, scales)


class Unfolded(NamedTuple):
    """Gradients: to the covariance (G, T, T), symmetric; to the rows; to the gammas (G, B, O)."""

    covariance: Tensor
    rows: list[Tensor]
    gammas: Tensor


def unfold(moments: Moments, scales: Tensor, stacked: Stacked, to_kernel: Tensor, geometry: Geometry) -> Unfolded:
    """The gradients of fold, from that to its kernel. Those to the betas are the bias's; none reaches the mean."""
    to_factors = stacked.by_branch([(rows * to_kernel).sum(-1) for rows in stacked.rows])
    skip = stacked.gammas.shape[1] > to_factors.shape[1]
    if skip:
        to_factors = torch.cat((to_factors, diagonal(to_kernel, geometry).unsqueeze(1)), 1)
    factors = stacked.gammas * scales
    to_variances = to_factors * factors * scales.square() * -0.5
    to_covariance = torch.zeros_like(moments.covariance)
    to_rows = []
    both = zip(stacked.by_row(factors), stacked.by_row(to_variances), stacked.rows, strict=True)
    for factor, to_variance, rows in both:
        weighted = to_variance * rows
        to_covariance.baddbmm_(rows.transpose(1, 2), weighted)
        to_rows.append((factor * to_kernel).baddbmm_(weighted, moments.covariance, alpha=2))
    if skip:
        variances_of(to_covariance, geometry).add_(to_variances[:, -1])
    return Unfolded(to_covariance, to_rows, to_factors * scales)
