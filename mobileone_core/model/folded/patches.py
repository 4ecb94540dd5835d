"""Any kernel, stride and groups, through the patches themselves: the plain way."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gram import gram
from mobileone_core.model.folded.kind import Kind, exact, summing

FEW = 64  # taps, as a network's first block has them


class Patches(Kind):
    """Patches are made for the moments and for their gradient, and not kept."""

    def moments(self, x: Tensor) -> Moments:
        seen = patches(exact(x), self.geometry)
        mean = seen.mean((0, 3))
        apart = seen - mean.unsqueeze(-1)
        rest = apart.mean((0, 3))  # what rounding left
        if self.geometry.groups == 1 and self.geometry.taps > FEW:
            products = sum((gram(image[0]) for image in apart), apart.new_zeros(()))
        else:  # neighbouring pixels are much alike: w^T S w needs digits that float32 does not have
            mean, rest = mean.to(summing(x)), rest.to(summing(x))
            wide = (image.to(summing(x)) for image in apart)
            products = sum((torch.bmm(image, image.transpose(1, 2)) for image in wide), mean.new_zeros(()))
        covariance = products / self.geometry.positions(x.shape) - rest.unsqueeze(-1) * rest.unsqueeze(-2)
        return Moments(mean + rest, covariance)

    def weigh(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        geometry = self.geometry
        seen = patches(exact(x), geometry)
        received = torch.matmul(weights.to(seen.dtype), seen - mean.to(seen.dtype).unsqueeze(-1))
        if geometry.kernel == geometry.stride == 1:
            return received.view(x.shape)
        flat = received.view(len(x), geometry.in_channels * geometry.area, -1)
        return F.fold(flat, x.shape[2:], geometry.kernel, padding=self._padding, stride=geometry.stride)


def patches(x: Tensor, geometry: Geometry) -> Tensor:
    """(N, C, H, W) -> (N, G, T, L): what the kernel sees at each of L output positions."""
    if geometry.kernel == 1:  # a view where the stride is 1
        return x[..., :: geometry.stride, :: geometry.stride].reshape(len(x), geometry.groups, geometry.taps, -1)
    unfolded = F.unfold(x, geometry.kernel, padding=geometry.kernel // 2, stride=geometry.stride)
    return unfolded.view(len(x), geometry.groups, geometry.taps, -1)
