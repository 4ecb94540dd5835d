"""Statistics of depthwise 3x3 convolutions at stride 1 from the autocorrelation of the input, without making patches.

With z = x - mean(x), zero outside the image, and 1 inside it, a tap sees p_t = z_t + mean * 1_t. E[z_t z_t'] is the
autocorrelation of z at lag t' - t, unless both taps lie in one outer row or column of the kernel: one border row or
column of the image then drops out. The lags are sums over diagonals of three matrix products per channel.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.statistics import PatchStatistics, at_least_float32, summation_dtype

SIDE = 3  # of the kernel
TAPS = SIDE * SIDE
OUTER = ((0, -1), (2, 0))  # an outer row or column of the kernel, and the image's border that it never covers
_SIDES = range(SIDE)
# t' - t of every pair of taps (t, t'), in rows and columns
_OFFSETS = [(c - a, d - b) for a in _SIDES for b in _SIDES for c in _SIDES for d in _SIDES]
_DOWNWARD = [(-down, -across) if down < 0 else (down, across) for down, across in _OFFSETS]
PAIR_LAGS = torch.tensor([5 * down + across + 2 for down, across in _DOWNWARD], device="cpu")  # indices into _lags
# indices into a 5x5 kernel
PAIR_OFFSETS = torch.tensor([5 * (down + 2) + across + 2 for down, across in _OFFSETS], device="cpu")
DISTANCES = torch.tensor([[abs(a - b) for b in _SIDES] for a in _SIDES], device="cpu")  # of two taps of a line


class Lags(PatchStatistics):
    """For depthwise 3x3 convolutions at stride 1, on images of two rows and columns or more."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        values = at_least_float32(x)
        shift = values.mean((0, 2, 3))
        z, shift = values - shift.view(1, -1, 1, 1), shift.to(summation_dtype(x))
        batch, channels, height, width = z.shape
        positions, count = height * width, batch * height * width
        products = _products(z, shift.dtype) / count
        rows, columns = _inside(height, shift), _inside(width, shift)
        # z_t where t' is inside too
        sums = torch.einsum("abh,chw,dew->cadbe", rows, z.sum(0, dtype=shift.dtype), columns)
        inside = torch.einsum("ab,de->adbe", rows.sum(-1), columns.sum(-1)).reshape(TAPS, TAPS) / positions
        return moments_of_centred(products, sums.reshape(channels, TAPS, TAPS) / count, inside, shift)

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """The gradient of x, (N, C, H, W), where that of a patch p is A (p - mean), A the weights.

        With z as in moments, A (p - mean) is A z_t' + A (shift 1_t' - mean); 1_t' depends on the position of t.
        """
        x = at_least_float32(x)
        mean, weights = mean.to(x.dtype), weights.to(x.dtype).view(-1, SIDE, SIDE, SIDE, SIDE)
        shift = mean[:, TAPS // 2]
        rows, columns = (_inside(size, x) for size in x.shape[2:])
        constant = torch.einsum("cabde,adh,bew->chw", weights * shift.view(-1, 1, 1, 1, 1), rows, columns)
        subtracted = torch.einsum("cabde,cde->cab", weights, mean.view(-1, SIDE, SIDE))
        constant = constant - torch.einsum("cab,ah,bw->chw", subtracted, rows[:, 1], columns[:, 1])
        return _correlate(x - shift.view(1, -1, 1, 1), weights) + constant


def moments_of_centred(products: Tensor, means: Tensor, inside: Tensor, shift: Tensor) -> Moments:
    """Moments of p_t = z_t + shift 1_t, where 1_t is 1 at positions whose tap t is inside the image.

    Args:
        products: means of z_t z_t', (C, 9, 9).
        means: means of z_t 1_t', (C, 9, 9).
        inside: means of 1_t 1_t', (9, 9).
        shift: (C).
    """
    centre = TAPS // 2  # is always inside
    z_mean, share = means[..., centre], inside[:, centre]
    mixed = means - z_mean.unsqueeze(-1) * share
    border = inside - torch.outer(share, share)
    shift = shift.view(-1, 1, 1)
    covariance = products - z_mean.unsqueeze(-1) * z_mean.unsqueeze(-2) + shift.square() * border
    covariance = covariance + shift * (mixed + mixed.transpose(-1, -2))
    return Moments(z_mean + shift.squeeze(-1) * share, covariance)


def _products(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of z_t z_t' over images and positions: (C, 9, 9)."""
    channels = z.shape[1]
    sums = _lags(z, dtype)[:, PAIR_LAGS.to(z.device)].view(channels, SIDE, SIDE, SIDE, SIDE)
    distances = DISTANCES.to(z.device)
    for tap, border in OUTER:
        sums[:, tap, :, tap, :] -= _line_lags(z[:, :, border, :].to(dtype))[:, distances]
        sums[:, :, tap, :, tap] -= _line_lags(z[:, :, :, border].to(dtype))[:, distances]
        for other, column in OUTER:
            sums[:, tap, other, tap, other] += z[:, :, border, column].to(dtype).square().sum(0)
    return sums.view(channels, TAPS, TAPS)


def _lags(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of z(i, j) z(i + d, j + e) for d = 0, 1, 2 and e = -2 ... 2: (C, 15).

    Two empty rows separate the images, so that all images of a channel form one matrix.
    """
    batch, channels, height, width = z.shape
    separated = z.new_zeros(channels, batch, height + SIDE - 1, width, dtype=dtype)
    separated[:, :, :height] = z.transpose(0, 1)
    lines = separated.view(channels, -1, width)
    lags = []
    for down in range(SIDE):
        product = torch.bmm(lines[:, : lines.shape[1] - down].transpose(1, 2), lines[:, down:])
        lags += [product.diagonal(across, 1, 2).sum(-1) for across in range(1 - SIDE, SIDE)]
    return torch.stack(lags, 1)


def _line_lags(line: Tensor) -> Tensor:
    """Sums of z(j) z(j + e) along a border row or column (N, C, length), for e = 0, 1, 2: (C, 3)."""
    length = line.shape[-1]
    pairs = [(line[..., : max(0, length - lag)], line[..., lag:]) for lag in range(SIDE)]
    return torch.stack([(one * other).sum((0, 2)) for one, other in pairs], 1)


def _correlate(x: Tensor, weights: Tensor) -> Tensor:
    """Sums of A_tt' x(q + t' - t) over the taps t that cover q: (N, C, H, W); weights A (C, 3, 3, 3, 3)."""
    channels = x.shape[1]
    kernel = weights.new_zeros(channels, 25)
    kernel.index_add_(1, PAIR_OFFSETS.to(x.device), weights.reshape(channels, -1))
    out = F.conv2d(x, kernel.view(channels, 1, 5, 5), padding=2, groups=channels)
    for tap, border in OUTER:
        out[:, :, border, :] -= _correlate_line(x[:, :, border, :], weights[:, tap, :, tap, :])
        out[:, :, :, border] -= _correlate_line(x[:, :, :, border], weights[:, :, tap, :, tap])
        for other, column in OUTER:
            out[:, :, border, column] += weights[:, tap, other, tap, other] * x[:, :, border, column]
    return out


def _correlate_line(line: Tensor, weights: Tensor) -> Tensor:
    """The same along one border line (N, C, length), weights (C, 3, 3)."""
    channels = line.shape[1]
    diagonals = [weights.diagonal(offset, 1, 2).sum(-1) for offset in range(1 - SIDE, SIDE)]
    return F.conv1d(line, torch.stack(diagonals, 1).unsqueeze(1), padding=2, groups=channels)


def _inside(size: int, like: Tensor) -> Tensor:
    """(3, 3, size): 1 at a value that tap t covers from a position from which tap t' is inside the image too."""
    values = torch.arange(size, device=like.device)
    taps = torch.arange(SIDE, device=like.device)
    position = values - taps.view(-1, 1, 1) + 1
    other = position + taps.view(1, -1, 1) - 1
    inside = (position >= 0) & (position < size) & (other >= 0) & (other < size)
    return inside.to(like.dtype)
