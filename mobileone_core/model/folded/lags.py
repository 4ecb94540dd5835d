"""Moments of the 3x3 patches of a depthwise block at stride 1, from the lags of its input: no patch is ever made.

With z = x - mean(x), zero outside the image, and 1 inside it, a tap sees p_t = z_t + mean * 1_t. E[z_t z_t'] is the
autocorrelation of z at t' - t, unless both taps lie in one outer row or column of the kernel: one border row or column
of the image drops out then. The lags are sums over diagonals of three matrix products a channel.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.kind import PatchStatistics, at_least_float32, summing

SIDE = 3  # of the kernel
TAPS = SIDE * SIDE
OUTER = ((0, -1), (2, 0))  # an outer row or column of the kernel, and the image's that it never sees
_PLACES = range(SIDE)
# t' - t of every pair of taps (t, t'), in rows and columns
_OFFSETS = [(c - a, d - b) for a in _PLACES for b in _PLACES for c in _PLACES for d in _PLACES]
_UPWARD = [(-down, -across) if down < 0 else (down, across) for down, across in _OFFSETS]
PAIR_LAGS = torch.tensor([5 * down + across + 2 for down, across in _UPWARD])  # places in _lags
PAIR_OFFSETS = torch.tensor([5 * (down + 2) + across + 2 for down, across in _OFFSETS])  # places in a 5x5 kernel
APART = torch.tensor([[abs(a - b) for b in _PLACES] for a in _PLACES])  # of two taps of a line


class Lags(PatchStatistics):
    """Depthwise 3x3 at stride 1, two rows and two columns or more."""

    def moments(self, x: Tensor) -> Moments:
        values = at_least_float32(x)
        shift = values.mean((0, 2, 3))
        return _moments(values - shift.view(1, -1, 1, 1), shift.to(summing(x)))

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """With z as in moments, A (p - m) is A z_t' + A (mean * 1_t' - m), and 1_t' depends on where t stands."""
        x = at_least_float32(x)
        mean, weights = mean.to(x.dtype), weights.to(x.dtype).view(-1, SIDE, SIDE, SIDE, SIDE)
        shift = mean[:, TAPS // 2]
        rows, columns = (_inside(size, x) for size in x.shape[2:])
        level = torch.einsum("cabde,adh,bew->chw", weights * shift.view(-1, 1, 1, 1, 1), rows, columns)
        below = torch.einsum("cabde,cde->cab", weights, mean.view(-1, SIDE, SIDE))
        level = level - torch.einsum("cab,ah,bw->chw", below, rows[:, 1], columns[:, 1])
        return _spread(x - shift.view(1, -1, 1, 1), weights) + level


def _moments(z: Tensor, shift: Tensor) -> Moments:
    """From the centred input (N, C, H, W) and its channels' means, in whose dtype all is summed."""
    batch, channels, height, width = z.shape
    positions, count = height * width, batch * height * width
    products = _products(z, shift.dtype) / count
    rows, columns = _inside(height, shift), _inside(width, shift)
    sums = torch.einsum("abh,chw,dew->cadbe", rows, z.sum(0, dtype=shift.dtype), columns)  # z_t where t' is inside too
    seen = sums.reshape(channels, TAPS, TAPS) / count
    inside = torch.einsum("ab,de->adbe", rows.sum(-1), columns.sum(-1)).reshape(TAPS, TAPS) / positions
    return of_centred(products, seen, inside, shift)


def of_centred(products: Tensor, seen: Tensor, inside: Tensor, shift: Tensor) -> Moments:
    """Of p_t = z_t + shift 1_t from the means of z_t z_t' and z_t 1_t' (C, 9, 9), of 1_t 1_t' (9, 9), and shift (C)."""
    centre = TAPS // 2  # is always inside
    own, share = seen[..., centre], inside[:, centre]
    mixed = seen - own.unsqueeze(-1) * share
    border = inside - torch.outer(share, share)
    shift = shift.view(-1, 1, 1)
    covariance = products - own.unsqueeze(-1) * own.unsqueeze(-2) + shift.square() * border
    covariance = covariance + shift * (mixed + mixed.transpose(-1, -2))
    return Moments(own + shift.squeeze(-1) * share, covariance)


def _products(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of z_t z_t' over images and positions: (C, 9, 9)."""
    channels = z.shape[1]
    sums = _lags(z, dtype)[:, PAIR_LAGS.to(z.device)].view(channels, SIDE, SIDE, SIDE, SIDE)
    apart = APART.to(z.device)
    for tap, place in OUTER:
        sums[:, tap, :, tap, :] -= _line_lags(z[:, :, place, :].to(dtype))[:, apart]
        sums[:, :, tap, :, tap] -= _line_lags(z[:, :, :, place].to(dtype))[:, apart]
        for other, position in OUTER:
            sums[:, tap, other, tap, other] += z[:, :, place, position].to(dtype).square().sum(0)
    return sums.view(channels, TAPS, TAPS)


def _lags(z: Tensor, dtype: torch.dtype) -> Tensor:
    """sum of z(i, j) z(i + d, j + e) for d = 0, 1, 2 and e = -2 ... 2: (C, 15).

    Two empty rows part the images, so that all of a channel is one matrix.
    """
    batch, channels, height, width = z.shape
    apart = z.new_zeros(channels, batch, height + SIDE - 1, width, dtype=dtype)
    apart[:, :, :height] = z.transpose(0, 1)
    lines = apart.view(channels, -1, width)
    lags = []
    for down in range(SIDE):
        product = torch.bmm(lines[:, : lines.shape[1] - down].transpose(1, 2), lines[:, down:])
        lags += [product.diagonal(across, 1, 2).sum(-1) for across in range(1 - SIDE, SIDE)]
    return torch.stack(lags, 1)


def _line_lags(line: Tensor) -> Tensor:
    """Of a border row or column (N, C, L) the same for one dimension, e = 0, 1, 2: (C, 3)."""
    length = line.shape[-1]
    pairs = [(line[..., : max(0, length - lag)], line[..., lag:]) for lag in range(SIDE)]
    return torch.stack([(one * other).sum((0, 2)) for one, other in pairs], 1)


def _spread(x: Tensor, weights: Tensor) -> Tensor:
    """What a value receives from all taps that see it: sum of A_tt' x(q + t' - t). weights (C, 3, 3, 3, 3)."""
    channels = x.shape[1]
    kernel = weights.new_zeros(channels, 25)
    kernel.index_add_(1, PAIR_OFFSETS.to(x.device), weights.reshape(channels, -1))
    out = F.conv2d(x, kernel.view(channels, 1, 5, 5), padding=2, groups=channels)
    for tap, place in OUTER:
        out[:, :, place, :] -= _along(x[:, :, place, :], weights[:, tap, :, tap, :])
        out[:, :, :, place] -= _along(x[:, :, :, place], weights[:, :, tap, :, tap])
        for other, position in OUTER:
            out[:, :, place, position] += weights[:, tap, other, tap, other] * x[:, :, place, position]
    return out


def _along(line: Tensor, weights: Tensor) -> Tensor:
    """The same along one border line (N, C, L), weights (C, 3, 3)."""
    channels = line.shape[1]
    diagonals = [weights.diagonal(offset, 1, 2).sum(-1) for offset in range(1 - SIDE, SIDE)]
    return F.conv1d(line, torch.stack(diagonals, 1).unsqueeze(1), padding=2, groups=channels)


def _inside(size: int, like: Tensor) -> Tensor:
    """(3, 3, size): 1 at a value that tap t sees from a position from which tap t' is inside the image too."""
    values = torch.arange(size, device=like.device)
    taps = torch.arange(SIDE, device=like.device)
    position = values - taps.view(-1, 1, 1) + 1
    beside = position + taps.view(1, -1, 1) - 1
    fits = (position >= 0) & (position < size) & (beside >= 0) & (beside < size)
    return fits.to(like.dtype)
