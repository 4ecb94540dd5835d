"""1x1 convolutions: their moments are a matrix product, and so is all else."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.gram import gram
from mobileone_core.model.folded.kind import Kind, exact

LEAST = 32  # positions an image from which a product an image is faster than one over all images, gathered


class Pointwise(Kind):
    """At stride 1 and in one group: G = 1, T = C. In full precision without the library's convolution."""

    def moments(self, x: Tensor) -> Moments:
        x = exact(x)
        mean = x.mean((0, 2, 3))
        apart = _gathered(x, mean)
        rest = apart.mean(1)  # what rounding left of the mean
        covariance = gram(apart).div_(apart.shape[1]) - torch.outer(rest, rest)
        return Moments((mean + rest).unsqueeze(0), covariance.unsqueeze(0))

    def weigh(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        return torch.matmul(weights, exact(x).flatten(2) - mean.view(-1, 1)).view(x.shape)

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        if x.dtype != mean.dtype:
            return super().convolve(x, mean, kernel, bias)
        if _gathers(x):
            return _scattered(torch.addmm(bias.view(-1, 1), kernel[0], _gathered(x, mean[0])), x)
        # a channel that is constant has a factor of 1 / sqrt(eps): its digits must cancel before it is multiplied
        apart = x.flatten(2) - mean.view(-1, 1)
        out = torch.baddbmm(bias.view(1, -1, 1), kernel.expand(len(x), -1, -1), apart)
        return out.view(len(x), -1, *x.shape[2:])

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        x, to_y = exact(x), exact(to_y)
        to_bias = to_y.sum((0, 2, 3)).unsqueeze(0)
        if _gathers(x):
            to_kernel = torch.mm(_gathered(to_y), _gathered(x, mean[0]).T)
        else:
            apart = x.flatten(2) - mean.view(-1, 1)
            to_kernel = torch.bmm(to_y.flatten(2), apart.transpose(1, 2)).sum(0)
        return to_kernel.unsqueeze(0), to_bias

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        if x.dtype != mean.dtype:
            return super().to_input(x, mean, to_y, level, kernel, weights)
        offset = -torch.mv(kernel[0].T, level[0])
        if _gathers(x):
            out = torch.addmm(offset.view(-1, 1), kernel[0].T, _gathered(to_y))
            return _scattered(out.addmm_(weights[0], _gathered(x, mean[0])), x)
        rows = to_y.flatten(2)
        out = torch.baddbmm(offset.view(1, -1, 1), kernel.transpose(1, 2).expand(len(x), -1, -1), rows)
        return out.baddbmm_(weights.expand(len(x), -1, -1), x.flatten(2) - mean.view(-1, 1)).view(x.shape)


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
    """(O, N * H * W) -> (N, O, H, W)."""
    return rows.view(-1, len(like), *like.shape[2:]).transpose(0, 1).contiguous()
