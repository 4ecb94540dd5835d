"""What a block's folded convolution asks of its input, with the library's convolution; a subclass knows the moments."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry

HALVES = (torch.bfloat16, torch.float16)
PARTS = 8  # of a batch, that are summed apart: few roundings, or few values at a time


@dataclass(frozen=True)
class PatchStatistics:
    """A way to compute on inputs x (N, C, H, W) of one geometry.

    Patches p (G, T) enter less their mean m (G, T) everywhere, so that an offset of x costs few digits. Means, kernels
    (G, O, T), biases (G, O) and weights (G, T, T) are float32 at least; x and grad_output may be of lower precision.
    """

    geometry: Geometry

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches."""
        raise NotImplementedError

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """What x receives where every patch is given weights (p - m), weights being symmetric: (N, C, H, W).

        Asked for by input_gradient alone, and so not of a kind that has its own.
        """
        raise NotImplementedError

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """kernel (p - m) + bias: (N, C_out, H', W'), in the dtype of x."""
        weight, bias = self._on_patches(x, mean, kernel, bias)
        coarse = bias.to(x.dtype)
        out = F.conv2d(x, weight, coarse, self.geometry.stride, self._padding, groups=self.geometry.groups)
        if x.dtype in HALVES:
            out = out + (bias - coarse.to(bias.dtype)).to(x.dtype).view(1, -1, 1, 1)
        return out

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias. mean must be that of x."""
        grad_output = at_least_float32(
            grad_output
        )  # the gradients of the branches are small differences of what is summed here
        grad_bias = channel_sums(grad_output).to(mean.dtype)
        # as a BN does: less its mean, what comes back sees no offset of the patches
        mean_grad = grad_bias / (grad_output.numel() // grad_output.shape[1])
        apart = grad_output - mean_grad.to(grad_output.dtype).view(1, -1, 1, 1)
        parts = zip(apart.chunk(PARTS), at_least_float32(x).chunk(PARTS), strict=True)
        grad_weight = sum((self._backward(*part, None)[1].to(mean.dtype) for part in parts), mean.new_zeros(()))
        shape = (self.geometry.groups, self.geometry.outputs)
        return grad_weight.reshape(*shape, self.geometry.taps), grad_bias.view(shape)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """What x receives from kernel^T (grad_output - mean_grad) and from moments_backward. mean_grad (G, O)."""
        grad_output = at_least_float32(grad_output)
        apart = grad_output - mean_grad.to(grad_output.dtype).view(1, -1, 1, 1)
        # its two parts may cancel: rounded, each alone, they cost more than the branches' rounded gradients
        grad_input = self._backward(apart, at_least_float32(x), self._weight(kernel.to(apart.dtype)))[0]
        return (grad_input + self.moments_backward(x, mean, weights)).to(x.dtype)

    @property
    def _padding(self) -> int:
        return self.geometry.kernel // 2

    def _on_patches(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The library's weight in the dtype of x, and the bias (C_out) that it needs where patches keep their mean."""
        rounded = kernel.to(x.dtype)
        # by the kernel as it is rounded: what rounding takes from it matters at the mean above all
        bias = bias - torch.bmm(rounded.to(mean.dtype), mean.unsqueeze(-1)).squeeze(-1)
        return self._weight(rounded), bias.view(-1)

    def _weight(self, kernel: Tensor) -> Tensor:
        return kernel.reshape(self.geometry.out_channels, -1, self.geometry.kernel, self.geometry.kernel)

    def _backward(self, grad_output: Tensor, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The library's gradients of a convolution: to x where a weight is given, else to the weight."""
        geometry, grad_input = self.geometry, weight is not None
        if weight is None:  # only its shape counts
            weight = x.new_empty(geometry.out_channels, geometry.taps // geometry.area, *[geometry.kernel] * 2)
        pairs = [[geometry.stride] * 2, [self._padding] * 2, [1, 1], False, [0, 0]]
        mask = [grad_input, not grad_input, False]
        found = torch.ops.aten.convolution_backward(grad_output, x, weight, None, *pairs, geometry.groups, mask)
        return found  # type: ignore[no-any-return]


def channel_sums(values: Tensor) -> Tensor:
    """(N, C, H, W) -> (C), in float64 but for single rows: little may be left of what cancels."""
    return values.sum(3).sum((0, 2), dtype=torch.float64)


def at_least_float32(values: Tensor) -> Tensor:
    """float32 at least."""
    return values.float() if values.dtype in HALVES else values


def summing(x: Tensor) -> torch.dtype:
    """What products of x are summed in, where they are few: float64, unless x itself is coarse.

    w^T S w of neighbouring pixels, which are much alike, needs digits of S that float32 sums do not have.
    """
    return torch.float64 if x.dtype in (torch.float32, torch.float64) else torch.float32
