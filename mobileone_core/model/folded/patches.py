"""Statistics of any kernel, stride and groups, from the patches themselves."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.statistics import (
    BATCH_PARTS,
    PatchStatistics,
    at_least_float32,
    channel_shift,
    channel_sums,
    gram,
    summation_dtype,
)

FEW_TAPS = 64  # as in a network's first block


class Patches(PatchStatistics):
    """Patches are made for the moments and again for the gradients, not saved between them."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        patches = extract_patches(at_least_float32(x), self.geometry)
        if self._is_wide:
            shift = channel_shift(patches[:, 0]).unsqueeze(0)
            centred = patches - shift.unsqueeze(-1)
            residual_mean = centred.mean((0, 3))
            products = sum((gram(image[0]) for image in centred), centred.new_zeros(()))
        else:
            shift = patches.mean((0, 3)).to(summation_dtype(x))
            residual_mean, products = _centred_sums(patches, shift)
            residual_mean /= self.geometry.positions(x.shape)
        covariance = products / self.geometry.positions(x.shape)
        covariance = covariance - residual_mean.unsqueeze(-1) * residual_mean.unsqueeze(-2)
        return Moments(shift + residual_mean, covariance)

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias, given the patches' mean; one product if patches are small."""
        if self._is_wide or self.geometry.groups > 1:
            return super().parameter_gradients(x, mean, grad_output)
        x, grad_output = at_least_float32(x), at_least_float32(grad_output)
        rounded = mean.to(x.dtype)
        centred = extract_patches(x, self.geometry)[:, 0] - rounded.view(1, -1, 1)
        grad_bias = channel_sums(grad_output).to(mean.dtype)
        grad_weight = torch.bmm(grad_output.flatten(2), centred.transpose(1, 2)).sum(0, dtype=mean.dtype)
        grad_weight -= torch.outer(grad_bias, (mean - rounded).view(-1))
        return grad_weight.unsqueeze(0), grad_bias.unsqueeze(0)

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """The gradient of x, (N, C, H, W), where that of a patch p is weights (p - mean)."""
        geometry = self.geometry
        patches = extract_patches(at_least_float32(x), geometry)
        gradients = torch.matmul(weights.to(patches.dtype), patches - mean.to(patches.dtype).unsqueeze(-1))
        if geometry.kernel == geometry.stride == 1:
            return gradients.view(x.shape)
        flat = gradients.view(len(x), geometry.in_channels * geometry.area, -1)
        kernel, stride, padding, dilation = geometry.pairs
        return F.fold(flat, x.shape[2:], kernel, dilation, padding, stride)

    @property
    def _is_wide(self) -> bool:
        """Whether one group has so many taps that products of patches cost more than a convolution."""
        return self.geometry.groups == 1 and self.geometry.taps > FEW_TAPS


def _centred_sums(patches: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of patches (N, G, T, L) less a mean (G, T), and of their products (G, T, T), in the dtype of the mean."""
    total, products = torch.zeros_like(mean), mean.new_zeros(*mean.shape, mean.shape[1])
    for part in patches.chunk(BATCH_PARTS):
        centred = part - mean.unsqueeze(-1)
        total += centred.sum((0, 3))
        products += torch.matmul(centred, centred.transpose(2, 3)).sum(0)
    return total, products


def extract_patches(x: Tensor, geometry: Geometry) -> Tensor:
    """The patches of x (N, C, H, W), what the kernel covers at each of L output positions: (N, G, T, L)."""
    if geometry.kernel == 1:  # a view where the stride is 1
        return x[..., :: geometry.stride, :: geometry.stride].reshape(len(x), geometry.groups, geometry.taps, -1)
    kernel, stride, padding, dilation = geometry.pairs
    unfolded = F.unfold(x, kernel, dilation, padding, stride)
    return unfolded.view(len(x), geometry.groups, geometry.taps, -1)
