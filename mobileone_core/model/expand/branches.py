"""The branches by which a method over-parameterizes a convolution; each folds exactly into one kernel and bias.

Letters: C input and O output channels, G groups, R x S taps of the convolution's kernel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_core.model.folded.geometry import ConvPairs, Geometry
from mobileone_core.model.layers import identity_kernel, in_float64, scale_and_bias

METHODS = ("mobileone", "repvgg", "acnet", "dbb", "expandnet")
Pair = tuple[int, int]
Window = tuple[int, int, int, int]  # taps of a kernel: first row, first column, rows, columns
NormFactory = Callable[[int], nn.Module]


@dataclass(frozen=True)
class ConvShape:
    """A convolution without its weights; pads are the zeros at the left, right, top and bottom, as F.pad takes them."""

    in_channels: int
    out_channels: int
    kernel: Pair
    stride: Pair
    pads: tuple[int, int, int, int]
    dilation: Pair
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, is_padded: bool = False) -> "ConvShape":
        """The shape of a convolution; without pads if its input is padded before."""
        pads = [0] * 4 if is_padded else cast("Any", conv)._reversed_padding_repeated_twice
        kernel, stride, dilation = (cast("Pair", pair) for pair in (conv.kernel_size, conv.stride, conv.dilation))
        return cls(conv.in_channels, conv.out_channels, kernel, stride, tuple(pads), dilation, conv.groups)

    @property
    def full(self) -> Window:
        """All taps."""
        return (0, 0, *self.kernel)

    @property
    def centre(self) -> Window:
        """The centre tap."""
        return (self.kernel[0] // 2, self.kernel[1] // 2, 1, 1)

    @property
    def geometry(self) -> Geometry:
        """As folded training describes it; with pads that are not equal on both sides it has none."""
        pairs = ConvPairs(self.kernel, self.stride, (self.pads[2], self.pads[0]), self.dilation)
        square = Geometry(
            self.groups, self.kernel[0], self.stride[0], self.in_channels, self.out_channels, self.dilation[0]
        )
        return square if square.pairs == pairs else replace(square, kernel=0, stride=0, dilation=1, uncommon=pairs)

    @property
    def can_skip(self) -> bool:
        """Whether the output has the shape of the input, and kernels are centred on the pixel they write."""
        reach = [gap * (size - 1) / 2 for gap, size in zip(self.dilation, self.kernel, strict=True)]
        centred = self.pads == (reach[1], reach[1], reach[0], reach[0])
        return centred and self.in_channels == self.out_channels and self.stride == (1, 1)

    def window_pads(self, window: Window) -> list[int]:
        """Zeros around the input for a kernel on a window of the taps; negative ones cut."""
        pads = []
        for axis in (1, 0):  # F.pad begins with the last axis
            before, after = self.pads[2 - 2 * axis : 4 - 2 * axis]
            behind = self.kernel[axis] - window[axis] - window[axis + 2]
            pads += [before - self.dilation[axis] * window[axis], after - self.dilation[axis] * behind]
        return pads


class Average(nn.Module):
    """Average pooling with zeros counted, as a depthwise convolution: it may be dilated, and folds as one."""

    def __init__(self, shape: ConvShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """(N, O, H, W) to (N, O, H', W')."""
        rows, columns = self.shape.kernel
        weight = x.new_full((x.shape[1], 1, rows, columns), 1 / (rows * columns))
        return F.conv2d(x, weight, None, self.shape.stride, 0, self.shape.dilation, x.shape[1])

    @property
    def weight(self) -> Tensor:
        """As a kernel (O, O / G, R, S), float64 on the CPU."""
        rows, columns = self.shape.kernel
        identity = identity_kernel(self.shape.out_channels, self.shape.groups)
        return identity.expand(-1, -1, rows, columns) / (rows * columns)


class Branch(nn.Module):
    """Convolutions and batch norms in a row, on a window of the taps; linear in evaluation mode.

    Zeros are padded before the first layer where a norm stands between convolutions: what that norm makes of them is
    then what the next convolution reads at the border, as the folded kernel does.
    """

    def __init__(self, shape: ConvShape, window: Window, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.shape, self.window = shape, window
        for name, layer in layers.items():
            self.add_module(name, layer)
        pads = shape.window_pads(window)
        self.pads = pads if any(pads) and all(_padding(layer) == (0, 0) for layer in layers.values()) else []

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H', W')."""
        if self.pads:
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
        kernel = weights[0]
        for weight in weights[1:]:
            kernel = compose(kernel, weight, self.shape.groups)
        return self._on_all_taps(kernel)

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Kernel on all taps (O, C / G, R, S) and bias (O) of the branch in evaluation mode; float64 on the CPU."""
        groups, channels = self.shape.groups, self.shape.in_channels
        kernel, bias = identity_kernel(channels, groups), torch.zeros(channels, dtype=torch.float64, device="cpu")
        for layer in self.children():
            if isinstance(layer, _BatchNorm):
                scale, shift = scale_and_bias(layer)
                kernel, bias = kernel * scale.view(-1, 1, 1, 1), bias * scale + shift
            else:
                weight = in_float64(cast("Tensor", layer.weight))
                bias = compose(bias.view(-1, 1, 1, 1), weight, groups).sum((1, 2, 3))
                kernel = compose(kernel, weight, groups)
        return self._on_all_taps(kernel), bias

    def _on_all_taps(self, kernel: Tensor) -> Tensor:
        if self.window == self.shape.full:
            return kernel
        top, left, rows, columns = self.window
        behind = (self.shape.kernel[0] - top - rows, self.shape.kernel[1] - left - columns)
        return F.pad(kernel, [left, behind[1], top, behind[0]])


def compose(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """The kernel of two convolutions in a row, (M, C / G, ...) and (O, M / G, ...), one of them 1x1."""
    left, right = (kernel.view(groups, -1, *kernel.shape[1:]) for kernel in (first, second))
    product = torch.einsum("gmcab,gomde->gocadbe", left, right)
    return product.flatten(5, 6).flatten(3, 4).flatten(0, 1)


def conv_branch(shape: ConvShape, window: Window, norm: NormFactory) -> Branch:
    """A convolution on a window of the taps, then a norm."""
    conv = _conv(shape, shape.in_channels, shape.out_channels, window, shape.window_pads(window))
    return Branch(shape, window, {"conv": conv, "bn": norm(shape.out_channels)})


def method_branches(  # noqa: PLR0913, PLR0917
    method: str, shape: ConvShape, k: int, scale: bool, skip: bool, norm: NormFactory
) -> dict[str, Branch]:
    """The branches by name, initialized as PyTorch does; fewer where a method's branch would repeat another.

    mobileone: k convolutions, a 1x1 one (scale) and a norm alone (skip). repvgg: the same with k = 1. acnet: the
    convolution, one of its row and one of its column (Ding et al., ICCV 2019). dbb: the convolution, a 1x1, a 1x1
    before a convolution and a 1x1 before an average (Ding et al., CVPR 2021). expandnet: 1x1, convolution and 1x1
    in a row, k times as wide, with one norm (Guo et al., NeurIPS 2020).
    """
    if method == "expandnet":
        return {"chain": _chain(shape, k, norm)}
    windows = {f"kxk_{index}": shape.full for index in range(k if method == "mobileone" else 1)}
    top, left, *_ = shape.centre
    if method == "acnet":
        others = {"row": (top, 0, 1, shape.kernel[1]), "column": (0, left, shape.kernel[0], 1)}
    else:
        others = {"scale": shape.centre} if scale or method != "mobileone" else {}
    windows |= {name: window for name, window in others.items() if window not in windows.values()}
    branches = {name: conv_branch(shape, window, norm) for name, window in windows.items()}
    if method == "dbb" and shape.full != shape.centre:
        branches |= _diverse(shape, norm)
    if method in ("mobileone", "repvgg") and skip and shape.can_skip:
        branches["skip"] = Branch(shape, shape.centre, {"bn": norm(shape.in_channels)})
    return branches


def _diverse(shape: ConvShape, norm: NormFactory) -> dict[str, Branch]:
    """DBB's branches of two convolutions, with its inner widths; a depthwise average has no 1x1 before it."""
    inputs, outputs, one = shape.in_channels, shape.out_channels, (0, 0, 1, 1)
    per_channel = shape.groups == outputs
    point, wide = replace(shape, stride=(1, 1)), 2 * inputs if per_channel else inputs
    inner = {"conv1": _conv(point, inputs, wide, one), "bn1": norm(wide)}
    outer = {"conv2": _conv(shape, wide, outputs, shape.full), "bn": norm(outputs)}
    before = (
        {} if per_channel and inputs == outputs else {"conv": _conv(point, inputs, outputs, one), "bn1": norm(outputs)}
    )
    averaged = {**before, "average": Average(shape), "bn": norm(outputs)}
    return {"point_kxk": Branch(shape, shape.full, inner | outer), "average": Branch(shape, shape.full, averaged)}


def _chain(shape: ConvShape, k: int, norm: NormFactory) -> Branch:
    """ExpandNet's chain; without norms and biases between its convolutions zeros stay zeros."""
    one, widths = (0, 0, 1, 1), (shape.in_channels, k * shape.in_channels, k * shape.out_channels, shape.out_channels)
    point, pads = replace(shape, stride=(1, 1)), shape.window_pads(shape.full)
    first, middle, last = pairwise(widths)
    convs = {"conv1": _conv(point, *first, one), "conv2": _conv(shape, *middle, shape.full, pads)}
    return Branch(shape, shape.full, convs | {"conv3": _conv(point, *last, one), "bn": norm(shape.out_channels)})


def _conv(shape: ConvShape, inputs: int, outputs: int, window: Window, pads: list[int] | None = None) -> nn.Conv2d:
    """A convolution of the shape's stride, dilation and groups; padded by itself where pads are equal on both sides."""
    left, right, top, bottom = pads or [0] * 4
    padding = (top, left) if left == right >= 0 and top == bottom >= 0 else (0, 0)
    kernel = window[2:]
    return nn.Conv2d(inputs, outputs, kernel, shape.stride, padding, shape.dilation, shape.groups, bias=False)


def _padding(layer: nn.Module) -> object:
    return getattr(layer, "padding", (0, 0))
