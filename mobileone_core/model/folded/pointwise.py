"""Statistics of 1x1 convolutions, whose moments and gradients are all matrix products."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.statistics import (
    HALVES,
    PatchStatistics,
    at_least_float32,
    channel_shift,
    channel_sums,
    gram,
    summation_dtype,
)

LEAST_POSITIONS = 32  # per image, from which one product per image is faster than one over all images, gathered
PRODUCT_TERMS = 64  # of one product; its roundings grow with them, while the branches' are averaged over k


class Pointwise(PatchStatistics):
    """For 1x1 convolutions at stride 1 in one group: G = 1, T = C. Only half precision uses conv2d."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the channels of x."""
        if not self.geometry.can_have_full_rank(x.shape):  # the kernels' gradients are then small differences
            x = x.to(summation_dtype(x))
        x = at_least_float32(x)
        shift = channel_shift(x.flatten(2))
        centred = _gathered(x, shift)
        residual_mean = centred.mean(1)
        covariance = gram(centred).div_(centred.shape[1]) - torch.outer(residual_mean, residual_mean)
        return Moments((shift + residual_mean).unsqueeze(0), covariance.unsqueeze(0))

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """kernel (p - mean) + bias: (N, C_out, H, W), in the dtype of x."""
        if x.dtype in HALVES:
            return super().convolve(x, mean, kernel, bias)
        mean, kernel, bias = mean.to(x.dtype), kernel.to(x.dtype), bias.to(x.dtype)
        # a constant channel has a factor of 1 / sqrt(eps): its digits must cancel before they are multiplied
        bias = bias.view(1, -1, 1)
        if _gathers(x):
            return _scattered(_sum(bias, (kernel, _gathered(x, mean[0]).unsqueeze(0))), x)
        return _sum(bias, (kernel, x.flatten(2) - mean.view(-1, 1))).view(len(x), -1, *x.shape[2:])

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias, given the mean of the patches."""
        x, grad_output = x.to(mean.dtype), grad_output.to(mean.dtype)
        grad_bias = channel_sums(grad_output).to(mean.dtype).unsqueeze(0)
        if _gathers(x):
            grad_weight = torch.mm(_gathered(grad_output), _gathered(x, mean[0]).T)
        else:
            centred = x.flatten(2) - mean.view(-1, 1)
            grad_weight = torch.bmm(grad_output.flatten(2), centred.transpose(1, 2)).sum(0)
        return grad_weight.unsqueeze(0), grad_bias

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """The gradient of x: kernel^T (grad_output - mean_grad) + weights (p - mean)."""
        dtype, x, grad_output = x.dtype, at_least_float32(x), at_least_float32(grad_output)
        mean, mean_grad, kernel, weights = (value.to(x.dtype) for value in (mean, mean_grad, kernel, weights))
        offset, transposed = -torch.mv(kernel[0].T, mean_grad[0]).view(1, -1, 1), kernel.transpose(1, 2)
        if _gathers(x):
            rows, centred = (values.unsqueeze(0) for values in (_gathered(grad_output), _gathered(x, mean[0])))
            return _scattered(_sum(offset, (transposed, rows), (weights, centred)), x).to(dtype)
        centred = x.flatten(2) - mean.view(-1, 1)
        return _sum(offset, (transposed, grad_output.flatten(2)), (weights, centred)).view(x.shape).to(dtype)


def _sum(constant: Tensor, *products: tuple[Tensor, Tensor]) -> Tensor:
    """Add a constant (1, O, 1) and products of factors (1, O, T) and rows (N, T, L), PRODUCT_TERMS taps at a time."""
    pieces = [
        (taps.expand(len(rows), -1, -1), values)
        for factor, rows in products
        for taps, values in zip(torch.split(factor, PRODUCT_TERMS, 2), torch.split(rows, PRODUCT_TERMS, 1), strict=True)
    ]
    out = torch.baddbmm(constant, *pieces[0])
    for piece in pieces[1:]:
        out.baddbmm_(*piece)
    return out


def _gathers(x: Tensor) -> bool:
    """Whether one product over all images is faster than one per image."""
    return x.shape[2] * x.shape[3] < LEAST_POSITIONS


def _gathered(x: Tensor, mean: Tensor | None = None) -> Tensor:
    """(N, C, H, W) less a mean (C) per channel as (C, N * H * W), in one pass."""
    rows = x.flatten(2).transpose(0, 1)
    if mean is None:
        return rows.reshape(x.shape[1], -1)
    if torch.compiler.is_compiling():  # it forgets the strides of a given result
        return (rows - mean.view(-1, 1, 1)).reshape(x.shape[1], -1)
    out = x.new_empty(rows.shape)
    torch.sub(rows, mean.view(-1, 1, 1), out=out)
    return out.view(x.shape[1], -1)


def _scattered(rows: Tensor, like: Tensor) -> Tensor:
    """(1, O, N * H * W) as (N, O, H, W)."""
    return rows.view(rows.shape[1], len(like), *like.shape[2:]).transpose(0, 1).contiguous()
