"""The branches by which a method over-parameterizes a convolution; each folds exactly into one kernel and bias.

Letters: C input and O output channels, G groups, R x S taps of the convolution's kernel.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial, reduce
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import require
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.methods import BranchPlan, Layer, Pair, Window

KNOWN_FORWARDS = (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)  # of BN that scales and shifts, nothing else
NormFactory = Callable[[int], nn.Module]


class Branch(nn.Module):
    """Convolutions and batch norms in a row, on a window of the taps; linear in evaluation mode.

    Zeros are padded before the first layer where a norm stands between convolutions: what that norm makes of them is
    then what the next convolution reads at the border, as the folded kernel does.
    """

    __jit_unused_properties__ = ("is_one_kernel", "norms", "convs")
    pads: list[int]  # TorchScript cannot tell the type of an empty list

    def __init__(self, geometry: Geometry, plan: BranchPlan, norm: NormFactory = nn.BatchNorm2d) -> None:
        super().__init__()
        self.geometry, self.window = geometry, plan.window
        left, right, top, bottom = pads = window_pads(geometry, plan.window)
        inside = plan.is_one_kernel and left == right >= 0 and top == bottom >= 0
        self.pads = [] if inside else pads
        for name, layer in plan.layers.items():
            self.add_module(name, _built(layer, geometry, norm, (top, left) if inside else (0, 0)))
        self.declared = list(map(_arguments, self.convs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H', W')."""
        if any(self.pads):
            x = F.pad(x, self.pads)
        for layer in self.children():
            x = layer(x)
        return x

    def composed(self, x: Tensor) -> Tensor:
        """The same with all convolutions as one, where no norm stands between them."""
        x = F.conv2d(x, self.kernel(), None, *self.geometry.pairs[1:], self.geometry.groups)
        return cast("Tensor", self.norms[0](x))

    @property
    def is_one_kernel(self) -> bool:
        """Whether one norm alone follows its convolutions, and these are as they were built, none replaced."""
        return len(self.norms) == 1 and list(map(_arguments, self.convs)) == self.declared

    @property
    def norms(self) -> list[Any]:
        """The batch norms, in order; the last one is the last layer."""
        return [layer for name, layer in self._modules.items() if name.startswith("bn")]

    @property
    def convs(self) -> list[Any]:
        """The convolutions and poolings, in order; none in a skip branch."""
        return [layer for name, layer in self._modules.items() if not name.startswith("bn")]

    def kernel(self) -> Tensor:
        """The convolutions composed, as a kernel on all taps (O, C / G, R, S), differentiable."""
        weights = [layer.weight for layer in self.convs]
        return self._on_all_taps(reduce(partial(compose, groups=self.geometry.groups), weights))

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Kernel on all taps (O, C / G, R, S) and bias (O) of the branch in evaluation mode; float64 on the CPU."""
        groups = self.geometry.groups
        kernel = bias = None
        for name, layer in self.named_children():
            if name.startswith("bn"):
                scale, shift = scale_and_bias(layer)
                kernel = identity_kernel(len(scale), groups) if kernel is None else kernel
                kernel, bias = kernel * scale.view(-1, 1, 1, 1), shift if bias is None else bias * scale + shift
            else:  # and no wrapper, such as LoRA's
                require(hasattr(layer, "weight"), "model", type(layer).__name__, "a convolution in every branch")
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

    def __init__(self, geometry: Geometry, padding: Pair) -> None:
        super().__init__()
        self.geometry, self.padding = geometry, padding

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, _, dilation = self.geometry.pairs
        weight = x.new_full((x.shape[1], 1, *kernel), 1 / prod(kernel))
        return F.conv2d(x, weight, None, stride, self.padding, dilation, x.shape[1])

    @property
    def weight(self) -> Tensor:
        """The layer as a kernel (O, O / G, R, S), float64 on the CPU."""
        identity = identity_kernel(self.geometry.out_channels, self.geometry.groups)
        return identity.expand(-1, -1, *self.geometry.pairs.kernel) / self.geometry.area


def folded_kernel(branches: Iterable[Branch]) -> tuple[Tensor, Tensor]:
    """Kernel (O, C / G, R, S) and bias (O) of the sum of branches in evaluation mode; float64 on the CPU."""
    kernels, biases = zip(*(branch.fold() for branch in branches), strict=True)
    return torch.stack(kernels).sum(0), torch.stack(biases).sum(0)


def scale_and_bias(norm: Any) -> tuple[Tensor, Tensor]:
    """Factor and summand of a BN, (C) each. Raises InputError unless it multiplies and adds alone."""
    name, allowed = type(norm).__name__, "a BN with running statistics that scales and shifts, nothing else"
    require(getattr(norm, "running_var", None) is not None, "model", name, allowed)
    mean, deviation = in_float64(norm.running_mean), (in_float64(norm.running_var) + norm.eps).sqrt()
    scale = deviation.reciprocal() if norm.weight is None else in_float64(norm.weight) / deviation
    bias = -mean * scale if norm.bias is None else in_float64(norm.bias) - mean * scale
    if type(norm).forward not in KNOWN_FORWARDS:
        levels = torch.linspace(-9, 9, 7, dtype=torch.float64, device="cpu")
        values = levels.view(-1, 1, 1, 1).expand(-1, len(bias), 1, 1)
        actual = copy.deepcopy(norm).to("cpu", torch.float64)(values)
        expected = values * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)
        require(torch.allclose(actual, expected, 1e-4, 1e-4), "model", name, allowed)
    return scale, bias


def identity_kernel(channels: int, groups: int) -> Tensor:
    """The 1x1 kernel that copies every channel: (C, C / groups, 1, 1), float64 on the CPU."""
    return torch.eye(channels // groups, dtype=torch.float64, device="cpu").repeat(groups, 1)[:, :, None, None]


def in_float64(values: Tensor) -> Tensor:
    """Values in float64 on the CPU."""
    return values.to("cpu", torch.float64)


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


def _built(layer: Layer, geometry: Geometry, norm: NormFactory, padding: Pair) -> nn.Module:
    """A layer of a branch, initialized as PyTorch does."""
    if layer.kind == "bn":
        return norm(layer.outputs)
    if layer.kind == "average":
        return Average(geometry, padding)
    options: Any = {"groups": geometry.groups, "bias": False}
    if layer.kernel:
        options |= {"stride": geometry.pairs.stride, "padding": padding, "dilation": geometry.pairs.dilation}
    return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel or 1, **options)


def _arguments(layer: Any) -> tuple[Any, ...]:
    """The arguments of a convolution without its weight; the class of a layer without parameters."""
    if not isinstance(layer, nn.Conv2d):
        return (type(layer),)
    pairs = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return type(layer), pairs, layer.groups, layer.padding_mode, layer.bias is None
