"""Moments of a block's input patches, the convolution of the centred patches, and the gradients of both."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry

HALVES = (torch.bfloat16, torch.float16)
BATCH_PARTS = 8  # of a batch, summed one by one: few roundings, or few values at a time
SUM_LENGTH = 48  # terms of a sum of products that cost few digits in float32
FEW_SUMS = 4  # with fewer partial sums, their roundings do not average out


@dataclass(frozen=True)
class PatchStatistics:
    """One way to compute the folded convolution of inputs x (N, C, H, W); subclasses differ in the moments.

    Patches p (G, T) always enter less their mean m (G, T), so that an offset of x costs few digits. Means, kernels
    (G, O, T), biases (G, O) and weights (G, T, T) are float32 or float64; x and grad_output (N, C_out, H', W') may be
    of lower precision.
    """

    geometry: Geometry

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        raise NotImplementedError

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """The gradient of x, (N, C, H, W), where that of a patch p is weights (p - mean), weights being symmetric.

        Only input_gradient calls it: a subclass that overrides that one needs none.
        """
        raise NotImplementedError

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """kernel (p - mean) + bias: (N, C_out, H', W'), in the dtype of x."""
        weight, bias = self._for_uncentred_patches(x, mean, kernel, bias)
        coarse = bias.to(x.dtype)
        out = F.conv2d(x, weight, coarse, *self.geometry.pairs[1:], self.geometry.groups)
        if x.dtype in HALVES:
            out = out + (bias - coarse.to(bias.dtype)).to(x.dtype).view(1, -1, 1, 1)
        return out

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias. mean must be the mean of the patches of x."""
        grad_output = at_least_float32(grad_output)  # the branches' gradients are small differences of these sums
        grad_bias = channel_sums(grad_output).to(mean.dtype)
        # as in BN's backward: a centred gradient is blind to an offset of the patches
        mean_grad = grad_bias / (grad_output.numel() // grad_output.shape[1])
        centred = grad_output - mean_grad.to(grad_output.dtype).view(1, -1, 1, 1)
        parts = zip(centred.chunk(BATCH_PARTS), at_least_float32(x).chunk(BATCH_PARTS), strict=True)
        grad_weight = sum((self._conv_backward(*part, None)[1].to(mean.dtype) for part in parts), mean.new_zeros(()))
        shape = (self.geometry.groups, self.geometry.outputs)
        return grad_weight.reshape(*shape, self.geometry.taps), grad_bias.view(shape)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """The gradient of x: kernel^T (grad_output - mean_grad), mean_grad (G, O), plus that of moments_backward."""
        grad_output = at_least_float32(grad_output)
        centred = grad_output - mean_grad.to(grad_output.dtype).view(1, -1, 1, 1)
        # both terms may cancel: rounding each of them costs more than the branches' rounded gradients do
        grad_input = self._conv_backward(centred, at_least_float32(x), self._as_weight(kernel.to(centred.dtype)))[0]
        return (grad_input + self.moments_backward(x, mean, weights)).to(x.dtype)

    def _for_uncentred_patches(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """conv2d's weight in the dtype of x, and the bias (C_out) that takes the patches' mean out again."""
        rounded = kernel.to(x.dtype)
        # by the rounded kernel: what rounding takes from it matters most at the mean
        bias = bias - torch.bmm(rounded.to(mean.dtype), mean.unsqueeze(-1)).squeeze(-1)
        return self._as_weight(rounded), bias.view(-1)

    def _as_weight(self, kernel: Tensor) -> Tensor:
        """A kernel (G, O, T) in conv2d's shape."""
        return kernel.reshape(self.geometry.out_channels, -1, *self.geometry.pairs.kernel)

    def _conv_backward(self, grad_output: Tensor, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of conv2d: the first, to x, where a weight is given, else the second, to the weight."""
        geometry, wants_input = self.geometry, weight is not None
        if weight is None:  # only its shape is read
            weight = x.new_empty(geometry.out_channels, geometry.taps // geometry.area, *geometry.pairs.kernel)
        pairs = [*map(list, geometry.pairs[1:]), False, [0, 0]]
        mask = [wants_input, not wants_input, False]
        gradients = torch.ops.aten.convolution_backward(grad_output, x, weight, None, *pairs, geometry.groups, mask)
        return gradients  # type: ignore[no-any-return]


def channel_sums(values: Tensor) -> Tensor:
    """Sums per channel of (N, C, H, W): (C), in float64 except along a row, since large terms may cancel."""
    return values.sum(3).sum((0, 2), dtype=torch.float64)


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values in float32, all others as they are."""
    return values.float() if values.dtype in HALVES else values


def summation_dtype(x: Tensor) -> torch.dtype:
    """The dtype for sums of few products of x: float64, or float32 where x has half precision.

    w^T S w of neighbouring pixels, which are much alike, needs digits of S that float32 sums do not have.
    """
    return torch.float64 if x.dtype in (torch.float32, torch.float64) else torch.float32


def channel_shift(values: Tensor) -> Tensor:
    """The shift (C) to subtract from values (N, C, L) before they are multiplied: their mean, or 0 where it is small.

    The mean is subtracted where its square is more than half of the mean square. Behind a ReLU many values are 0: less
    a mean they are all alike, and so are the roundings of their squares.
    """
    mean = values.mean((0, 2))
    square = torch.linalg.vector_norm(torch.linalg.vector_norm(values, dim=2), dim=0).square()  # fastest in two steps
    return torch.where(2 * mean.square() > square / (values.shape[0] * values.shape[2]), mean, 0)


def gram(rows: Tensor) -> Tensor:
    """The product of rows (C, M) with their transpose, (C, C), as a sum of partial products.

    A matrix product adds term by term. Behind a ReLU many terms are alike, and so are their roundings, which add up to
    ten and more in 500 terms. Small partial products are computed all at once.
    """
    channels, terms = rows.shape
    if rows.dtype == torch.float64:
        return rows @ rows.T
    length = SUM_LENGTH if terms >= FEW_SUMS * SUM_LENGTH else SUM_LENGTH // 3
    if channels > 2 * SUM_LENGTH:
        total = rows.new_zeros(channels, channels)
        for piece in torch.split(rows, length, 1):
            total.addmm_(piece, piece.T)
        return total
    pieces = max(1, terms // length)
    length = terms // pieces
    parts = rows[:, : pieces * length].view(channels, pieces, length).transpose(0, 1)
    remainder = rows[:, pieces * length :]
    return torch.bmm(parts, parts.transpose(1, 2)).sum(0).addmm_(remainder, remainder.T)
