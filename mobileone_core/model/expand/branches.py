"""The branches by which a method over-parameterizes a convolution; each folds exactly into one kernel and bias.

Letters: C input and O output channels, G groups, R x S taps of the convolution's kernel.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.layers import identity_kernel, in_float64, scale_and_bias

METHODS = ("mobileone", "repvgg", "acnet", "dbb", "expandnet")
Pair = tuple[int, int]
Window = tuple[int, int, int, int]  # taps of a kernel: first row, first column, rows, columns
NormFactory = Callable[[int], nn.Module]


class Branch(nn.Module):
    """Convolutions and batch norms in a row, on a window of the taps; linear in evaluation mode.

    Zeros are padded before the first layer where a norm stands between convolutions: what that norm makes of them is
    then what the next convolution reads at the border, as the folded kernel does.
    """

    def __init__(self, geometry: Geometry, window: Window, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.geometry, self.window = geometry, window
        for name, layer in layers.items():
            self.add_module(name, layer)
        pads = window_pads(geometry, window)
        self.pads = [] if any(sum(getattr(layer, "padding", ())) for layer in layers.values()) else pads

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H', W')."""
        if any(self.pads):
            x = F.pad(x, self.pads)
        for layer in self.children():
            x = layer(x)
        return x

    @property
    def is_one_kernel(self) -> bool:
        """Whether it is a convolution, or several without norms in between, and one norm."""
        return len(self.norms) == 1

    @property
    def norms(self) -> list[Any]:
        """The batch norms, in order; the last one is the last layer."""
        return [layer for layer in self.children() if isinstance(layer, _BatchNorm)]

    @property
    def convs(self) -> list[Any]:
        """The convolutions and poolings, in order; none in a skip branch."""
        return [layer for layer in self.children() if not isinstance(layer, _BatchNorm)]

    def kernel(self) -> Tensor:
        """The convolutions composed, as a kernel on all taps (O, C / G, R, S), differentiable."""
        weights = [layer.weight for layer in self.convs]
        return self._on_all_taps(reduce(partial(compose, groups=self.geometry.groups), weights))

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Kernel on all taps (O, C / G, R, S) and bias (O) of the branch in evaluation mode; float64 on the CPU."""
        groups = self.geometry.groups
        kernel = bias = None
        for layer in self.children():
            if isinstance(layer, _BatchNorm):
                scale, shift = scale_and_bias(layer)
                kernel = identity_kernel(len(scale), groups) if kernel is None else kernel
                kernel, bias = kernel * scale.view(-1, 1, 1, 1), shift if bias is None else bias * scale + shift
            else:
                weight = in_float64(cast("Tensor", layer.weight))
                bias = None if bias is None else compose(bias.view(-1, 1, 1, 1), weight, groups).sum((1, 2, 3))
                kernel = weight if kernel is None else compose(kernel, weight, groups)
        return self._on_all_taps(cast("Tensor", kernel)), cast("Tensor", bias)

    def _on_all_taps(self, kernel: Tensor) -> Tensor:
        (rows, columns), (top, left, height, width) = self.geometry.pairs.kernel, self.window
        border = [left, columns - left - width, top, rows - top - height]
        return F.pad(kernel, border) if any(border) else kernel


class Average(nn.Module):
    """Average pooling that counts zeros, as a convolution (N, O, H, W) to (N, O, H', W'): it may be dilated."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, _, dilation = self.geometry.pairs
        weight = x.new_full((x.shape[1], 1, *kernel), 1 / prod(kernel))
        return F.conv2d(x, weight, None, stride, 0, dilation, x.shape[1])

    @property
    def weight(self) -> Tensor:
        """As a kernel (O, O / G, R, S), float64 on the CPU."""
        identity = identity_kernel(self.geometry.out_channels, self.geometry.groups)
        return identity.expand(-1, -1, *self.geometry.pairs.kernel) / self.geometry.area


def compose(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """The kernel of two convolutions in a row, (M, C / G, ...) and (O, M / G, ...), one of them 1x1."""
    left, right = (kernel.view(groups, -1, *kernel.shape[1:]) for kernel in (first, second))
    product = torch.einsum("gmcab,gomde->gocadbe", left, right)
    return product.flatten(5, 6).flatten(3, 4).flatten(0, 1)


def window_pads(geometry: Geometry, window: Window) -> list[int]:
    """Zeros around the input, as F.pad takes them, for a kernel on a window of the taps; negative ones cut."""
    pads: list[int] = []
    for size, _, zeros, gap, first, count in zip(*geometry.pairs, window[:2], window[2:], strict=True):
        pads = [zeros - gap * first, zeros - gap * (size - first - count), *pads]
    return pads


def can_skip(geometry: Geometry) -> bool:
    """Whether the output has the shape of the input, and kernels are centred on the pixel they write."""
    kernel, stride, padding, dilation = geometry.pairs
    centred = all(gap * (size - 1) == 2 * zeros for size, zeros, gap in zip(kernel, padding, dilation, strict=True))
    return centred and stride == (1, 1) and geometry.in_channels == geometry.out_channels and geometry.area % 2 == 1


def method_branches(  # noqa: PLR0913, PLR0917
    method: str, geometry: Geometry, k: int, scale: bool, skip: bool, norm: NormFactory
) -> dict[str, Branch]:
    """The branches by name, initialized as PyTorch does; fewer where a method's branch would repeat another.

    mobileone: k convolutions, a 1x1 one (scale) and a norm alone (skip). repvgg: the same with k = 1. acnet: the
    convolution, one of its row and one of its column (Ding et al., ICCV 2019). dbb: the convolution, a 1x1, a 1x1
    before a convolution and a 1x1 before an average (Ding et al., CVPR 2021). expandnet: 1x1, convolution and 1x1
    in a row, k times as wide, with one norm (Guo et al., NeurIPS 2020).
    """
    rows, columns = geometry.pairs.kernel
    full, centre = (0, 0, rows, columns), (rows // 2, columns // 2, 1, 1)
    if method == "expandnet":
        return {"chain": Branch(geometry, full, _chain(geometry, k, norm))}
    windows = {f"kxk_{index}": full for index in range(k if method == "mobileone" else 1)}
    others = {"scale": centre} if scale or method != "mobileone" else {}
    if method == "acnet":
        others = {"row": (rows // 2, 0, 1, columns), "column": (0, columns // 2, rows, 1)}
    windows |= {name: window for name, window in others.items() if window not in windows.values()}
    branches = {}
    for name, window in windows.items():
        left, right, top, bottom = window_pads(geometry, window)
        padding = (top, left) if left == right >= 0 and top == bottom >= 0 else (0, 0)
        conv = _conv(geometry, geometry.in_channels, geometry.out_channels, window[2:], padding)
        branches[name] = Branch(geometry, window, {"conv": conv, "bn": norm(geometry.out_channels)})
    if method == "dbb" and full != centre:
        branches |= {name: Branch(geometry, full, layers) for name, layers in _diverse(geometry, norm).items()}
    if method in ("mobileone", "repvgg") and skip and can_skip(geometry):
        branches["skip"] = Branch(geometry, centre, {"bn": norm(geometry.in_channels)})
    return branches


def _diverse(geometry: Geometry, norm: NormFactory) -> dict[str, dict[str, nn.Module]]:
    """DBB's branches of two convolutions, with its inner widths; a depthwise average has no 1x1 before it."""
    inputs, outputs, kernel = geometry.in_channels, geometry.out_channels, geometry.pairs.kernel
    wide = 2 * inputs if geometry.groups == outputs else inputs
    first = {"conv1": _conv(geometry, inputs, wide), "bn1": norm(wide)}
    before = {"conv": _conv(geometry, inputs, outputs), "bn1": norm(outputs)}
    before = {} if geometry.groups == inputs == outputs else before
    return {
        "point_kxk": first | {"conv2": _conv(geometry, wide, outputs, kernel), "bn": norm(outputs)},
        "average": before | {"average": Average(geometry), "bn": norm(outputs)},
    }


def _chain(geometry: Geometry, k: int, norm: NormFactory) -> dict[str, nn.Module]:
    """ExpandNet's chain; without norms and biases between its convolutions zeros stay zeros."""
    inputs, outputs, (kernel, _, padding, _) = geometry.in_channels, geometry.out_channels, geometry.pairs
    return {
        "conv1": _conv(geometry, inputs, k * inputs),
        "conv2": _conv(geometry, k * inputs, k * outputs, kernel, padding),
        "conv3": _conv(geometry, k * outputs, outputs),
        "bn": norm(outputs),
    }


def _conv(
    geometry: Geometry, inputs: int, outputs: int, kernel: Pair | None = None, padding: Pair = (0, 0)
) -> nn.Conv2d:
    """A convolution with the stride and the dilation of a geometry, or a 1x1 one that adapts channels."""
    stride = geometry.pairs.stride if kernel else 1
    options: Any = {"dilation": geometry.pairs.dilation, "groups": geometry.groups, "bias": False}
    return nn.Conv2d(inputs, outputs, kernel or 1, stride, padding, **options)
