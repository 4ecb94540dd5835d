"""The parameters of a block's branches, as what is computed from them needs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.geometry import Geometry


@dataclass(frozen=True)
class Branches:
    """What a block sums, B branches: those that convolve with the whole kernel, whether one with 1x1 (scale), whether
    one with nothing (skip, the last); eps of every branch's BN.
    """

    scale: bool
    skip: bool
    eps: tuple[float, ...]

    def stacked(self, weights: Sequence[Tensor], gammas: Tensor, geometry: Geometry, like: Tensor) -> "Stacked":
        """Of weights in their order and gammas (B, C_out), in the dtype of the moments."""
        weights = list(weights)
        if self.scale:
            weights[-1] = F.pad(weights[-1], [geometry.kernel // 2] * 4)
        shape = (geometry.groups, geometry.outputs, geometry.taps)
        rows = tuple(_in_dtype(weight.reshape(shape), like) for weight in weights)
        return Stacked(rows, _in_dtype(gammas.view(-1, *shape[:2]).transpose(0, 1), like))

    def parted(self, rows: Sequence[Tensor], weights: Sequence[Tensor], geometry: Geometry) -> list[Tensor]:
        """The gradients of the weights, from those of the rows that were made of them."""
        kernels = list(rows)
        if self.scale:
            kernels[-1] = centre(kernels[-1], geometry)
        pairs = zip(kernels, weights, strict=True)
        return [_in_dtype(kernel.reshape(weight.shape), weight) for kernel, weight in pairs]

    def epsilons(self, like: Tensor) -> Tensor | float:
        """eps as it is added to variances (G, B, O)."""
        if len(set(self.eps)) == 1:
            return self.eps[0]
        return torch.tensor(self.eps, dtype=like.dtype, device=like.device).view(1, -1, 1)


class Stacked(NamedTuple):
    """What makes the kernel of a block's branches: rows (G, O, T) of all but the skip; gammas (G, B, O)."""

    rows: tuple[Tensor, ...]
    gammas: Tensor


def centre(values: Tensor, geometry: Geometry) -> Tensor:
    """Of (..., T) the centre tap of every channel of the group: (..., C / G), a view."""
    return values[..., geometry.area // 2 :: geometry.area]


def _in_dtype(values: Tensor, like: Tensor) -> Tensor:
    """Most often they are: looking is cheaper than a call, of which every branch would have one."""
    return values if values.dtype == like.dtype else values.to(like.dtype)
