"""Any kernel, stride and groups, through the patches themselves: the plain way."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gram import gram, shift_of
from mobileone_core.model.folded.kind import PARTS, PatchStatistics, at_least_float32, channel_sums, summing

FEW_TAPS = 64  # taps, as a network's first block has them


class Patches(PatchStatistics):
    """Patches are made for the moments and for the gradients, and not kept."""

    def moments(self, x: Tensor) -> Moments:
        seen = patches(at_least_float32(x), self.geometry)
        if self._is_wide:
            shift = shift_of(seen[:, 0]).unsqueeze(0)
            apart = seen - shift.unsqueeze(-1)
            rest = apart.mean((0, 3))
            products = sum((gram(image[0]) for image in apart), apart.new_zeros(()))
        else:  # neighbouring pixels are much alike: w . mean and w^T S w need digits that float32 does not have
            shift = seen.mean((0, 3)).to(summing(x))
            rest, products = _sums(seen, shift)
            rest /= self.geometry.positions(x.shape)
        covariance = products / self.geometry.positions(x.shape) - rest.unsqueeze(-1) * rest.unsqueeze(-2)
        return Moments(shift + rest, covariance)

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        if self._is_wide or self.geometry.groups > 1:
            return super().parameter_gradients(x, mean, grad_output)
        x, grad_output = at_least_float32(x), at_least_float32(grad_output)
        rounded = mean.to(x.dtype)
        apart = patches(x, self.geometry)[:, 0] - rounded.view(1, -1, 1)
        grad_bias = channel_sums(grad_output).to(mean.dtype)
        grad_weight = torch.bmm(grad_output.flatten(2), apart.transpose(1, 2)).sum(0, dtype=mean.dtype)
        grad_weight -= torch.outer(grad_bias, (mean - rounded).view(-1))
        return grad_weight.unsqueeze(0), grad_bias.unsqueeze(0)

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        geometry = self.geometry
        seen = patches(at_least_float32(x), geometry)
        received = torch.matmul(weights.to(seen.dtype), seen - mean.to(seen.dtype).unsqueeze(-1))
        if geometry.kernel == geometry.stride == 1:
            return received.view(x.shape)
        flat = received.view(len(x), geometry.in_channels * geometry.area, -1)
        return F.fold(flat, x.shape[2:], geometry.kernel, padding=self._padding, stride=geometry.stride)

    @property
    def _is_wide(self) -> bool:
        """Whether all is one group of so many taps that copies and products of patches cost more than a convolution."""
        return self.geometry.groups == 1 and self.geometry.taps > FEW_TAPS


def _sums(seen: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Of all patches (N, G, T, L) less a mean (G, T), and of their products (G, T, T): in its dtype, part by part."""
    rest, products = torch.zeros_like(mean), mean.new_zeros(*mean.shape, mean.shape[1])
    for part in seen.chunk(PARTS):
        apart = part - mean.unsqueeze(-1)
        rest += apart.sum((0, 3))
        products += torch.matmul(apart, apart.transpose(2, 3)).sum(0)
    return rest, products


def patches(x: Tensor, geometry: Geometry) -> Tensor:
    """(N, C, H, W) -> (N, G, T, L): what the kernel sees at each of L output positions."""
    if geometry.kernel == 1:  # a view where the stride is 1
        return x[..., :: geometry.stride, :: geometry.stride].reshape(len(x), geometry.groups, geometry.taps, -1)
    unfolded = F.unfold(x, geometry.kernel, padding=geometry.kernel // 2, stride=geometry.stride)
    return unfolded.view(len(x), geometry.groups, geometry.taps, -1)
