"""1x1 convolutions: their moments are a matrix product, and so is all else."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.gram import gram, shift_of
from mobileone_core.model.folded.kind import HALVES, PatchStatistics, at_least_float32, channel_sums, summing

LEAST = 32  # positions an image from which a product an image is faster than one over all images, gathered
PIECE = 64  # terms of a sum; a product's roundings grow with them, the branches' are averaged over k


class Pointwise(PatchStatistics):
    """At stride 1 and in one group: G = 1, T = C. In full precision without the library's convolution."""

    def moments(self, x: Tensor) -> Moments:
        if not self.geometry.can_have_full_rank(x.shape):  # what is left of the kernels' gradients needs digits
            x = x.to(summing(x))
        x = at_least_float32(x)
        shift = shift_of(x.flatten(2))
        apart = _gathered(x, shift)
        rest = apart.mean(1)  # what is left of the mean
        covariance = gram(apart).div_(apart.shape[1]) - torch.outer(rest, rest)
        return Moments((shift + rest).unsqueeze(0), covariance.unsqueeze(0))

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        if x.dtype in HALVES:
            return super().convolve(x, mean, kernel, bias)
        mean, kernel, bias = mean.to(x.dtype), kernel.to(x.dtype), bias.to(x.dtype)
        # a channel that is constant has a factor of 1 / sqrt(eps): its digits must cancel before it is multiplied
        bias = bias.view(1, -1, 1)
        if _gathers(x):
            return _scattered(_sum(bias, (kernel, _gathered(x, mean[0]).unsqueeze(0))), x)
        return _sum(bias, (kernel, x.flatten(2) - mean.view(-1, 1))).view(len(x), -1, *x.shape[2:])

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        x, grad_output = x.to(mean.dtype), grad_output.to(mean.dtype)
        grad_bias = channel_sums(grad_output).to(mean.dtype).unsqueeze(0)
        if _gathers(x):
            grad_weight = torch.mm(_gathered(grad_output), _gathered(x, mean[0]).T)
        else:
            apart = x.flatten(2) - mean.view(-1, 1)
            grad_weight = torch.bmm(grad_output.flatten(2), apart.transpose(1, 2)).sum(0)
        return grad_weight.unsqueeze(0), grad_bias

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        given, x, grad_output = x.dtype, at_least_float32(x), at_least_float32(grad_output)
        mean, mean_grad, kernel, weights = (value.to(x.dtype) for value in (mean, mean_grad, kernel, weights))
        offset, turned = -torch.mv(kernel[0].T, mean_grad[0]).view(1, -1, 1), kernel.transpose(1, 2)
        if _gathers(x):
            rows, apart = (values.unsqueeze(0) for values in (_gathered(grad_output), _gathered(x, mean[0])))
            return _scattered(_sum(offset, (turned, rows), (weights, apart)), x).to(given)
        apart = x.flatten(2) - mean.view(-1, 1)
        return _sum(offset, (turned, grad_output.flatten(2)), (weights, apart)).view(x.shape).to(given)


def _sum(constant: Tensor, *products: tuple[Tensor, Tensor]) -> Tensor:
    """constant (1, O, 1) and the products of factors (1, O, T) and rows (N, T, L), by pieces of few roundings."""
    pieces = [
        (own.expand(len(rows), -1, -1), seen)
        for factor, rows in products
        for own, seen in zip(torch.split(factor, PIECE, 2), torch.split(rows, PIECE, 1), strict=True)
    ]
    out = torch.baddbmm(constant, *pieces[0])
    for piece in pieces[1:]:
        out.baddbmm_(*piece)
    return out


def _gathers(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] < LEAST


def _gathered(x: Tensor, mean: Tensor | None = None) -> Tensor:
    """(N, C, H, W) -> (C, N * H * W), less a channel's mean: one pass."""
    rows = x.flatten(2).transpose(0, 1)
    if mean is None:
        return rows.reshape(x.shape[1], -1)
    if torch.compiler.is_compiling():  # which forgets how a given result lies
        return (rows - mean.view(-1, 1, 1)).reshape(x.shape[1], -1)
    out = x.new_empty(rows.shape)
    torch.sub(rows, mean.view(-1, 1, 1), out=out)
    return out.view(x.shape[1], -1)


def _scattered(rows: Tensor, like: Tensor) -> Tensor:
    """(1, O, N * H * W) -> (N, O, H, W)."""
    return rows.view(rows.shape[1], len(like), *like.shape[2:]).transpose(0, 1).contiguous()
