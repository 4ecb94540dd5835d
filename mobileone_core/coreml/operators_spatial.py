"""Operators over spatial positions of feature maps (N, C, H, W): convolution, pooling, padding, resampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, operator, register

PAD_TYPES = ("valid", "custom", "same", "same_lower")
FORMS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@dataclass(frozen=True)
class Window:
    """A sliding window: kernel size, stride and dilation per spatial axis."""

    kernel: list[int]
    stride: list[int]
    dilation: list[int]


def _padded(inputs: Inputs, x: Tensor, window: Window, value: float) -> Tensor:
    """Pad x with value as the operation's pad_type requires."""
    kind = inputs.text("pad_type", PAD_TYPES, "valid")
    pads = inputs.ints("pad", [0] * 2 * len(window.kernel))
    if kind == "valid":
        return x
    if kind != "custom":
        pads = _same_padding(x.shape[2:], window, kind == "same_lower")
    return F.pad(x, _torch_pads(pads), value=value) if any(pads) else x


def _same_padding(size: Sequence[int], window: Window, lower: bool) -> list[int]:
    """Return the padding before and after each spatial axis that gives ceil(size / stride) output positions."""
    pads = []
    for length, taps, step, gap in zip(size, window.kernel, window.stride, window.dilation, strict=True):
        total = max(0, (-(-length // step) - 1) * step + (taps - 1) * gap + 1 - length)
        less, more = total // 2, total - total // 2
        pads += [more, less] if lower else [less, more]
    return pads


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """Reorder (before, after) pairs from first axis first to F.pad's last axis first."""
    pairs = [list(pads[index : index + 2]) for index in range(0, len(pads), 2)]
    return [item for pair in reversed(pairs) for item in pair]


@operator("conv")
def conv(inputs: Inputs) -> Tensor:
    """Convolution in one to three spatial axes."""
    x, weight = inputs.tensor("x"), inputs.tensor("weight")
    if weight.dim() not in FORMS:
        raise inputs.refusal("weight", tuple(weight.shape), "supported: 3 to 5 axes")
    ones = [1] * (weight.dim() - 2)
    stride, dilation = inputs.ints("strides", ones), inputs.ints("dilations", ones)
    x = _padded(inputs, x, Window(list(weight.shape[2:]), stride, dilation), 0.0)
    groups = int(inputs.number("groups", 1))
    return FORMS[weight.dim()](x, weight, inputs.optional("bias"), stride, 0, dilation, groups)


def _window(inputs: Inputs) -> Window:
    kernel = inputs.ints("kernel_sizes")
    if len(kernel) != 2:
        raise inputs.refusal("kernel_sizes", kernel, "supported: two spatial axes")
    return Window(kernel, inputs.ints("strides", [1, 1]), [1, 1])


@operator("max_pool")
def max_pool(inputs: Inputs) -> Tensor:
    """Max pooling; ceil_mode, where the last window may exceed the border, is supported without padding only."""
    window, x, ceil_mode = _window(inputs), inputs.tensor("x"), inputs.flag("ceil_mode")
    padded = _padded(inputs, x, window, -torch.inf)
    if ceil_mode and padded.shape != x.shape:
        raise inputs.refusal("ceil_mode", ceil_mode, "supported: without padding")
    return F.max_pool2d(padded, window.kernel, window.stride, ceil_mode=ceil_mode)


@operator("avg_pool")
def avg_pool(inputs: Inputs) -> Tensor:
    """Average pooling, with or without the padding in the average."""
    window, x = _window(inputs), inputs.tensor("x")
    inputs.only("ceil_mode", 0)
    mean = _mean(inputs, x, window)
    if not inputs.flag("exclude_padding_from_average"):
        return mean
    return mean / _mean(inputs, torch.ones_like(x[:1, :1]), window)


def _mean(inputs: Inputs, x: Tensor, window: Window) -> Tensor:
    return F.avg_pool2d(_padded(inputs, x, window, 0.0), window.kernel, window.stride)


@operator("pad")
def pad(inputs: Inputs) -> Tensor:
    """Pad x; pad lists before and after of the last axes."""
    mode = inputs.text("mode", ("constant", "reflect", "replicate"), "constant")
    pads, value = _torch_pads(inputs.ints("pad")), inputs.number("constant_val", 0.0)
    x = inputs.tensor("x")
    if mode == "constant":
        return F.pad(x, pads, value=value)
    while len(pads) > 2 * (x.dim() - 2) and pads[-2:] == [0, 0]:  # torch pads only the last axes in these modes
        pads = pads[:-2]
    return F.pad(x, pads, mode)


def _upsampled(inputs: Inputs) -> Tensor:
    factors = (inputs.number("scale_factor_height", 1), inputs.number("scale_factor_width", 1))
    if inputs.kind == "upsample_nearest_neighbor":
        return F.interpolate(inputs.tensor("x"), scale_factor=factors, mode="nearest")
    corners = inputs.flag("align_corners", default=True)
    inputs.only("half_pixel_centers", float(not corners))
    return F.interpolate(inputs.tensor("x"), scale_factor=factors, mode="bilinear", align_corners=corners)


register(
    {
        "upsample_nearest_neighbor": _upsampled,
        "upsample_bilinear": _upsampled,
        "pixel_shuffle": lambda op: F.pixel_shuffle(op.tensor("x"), int(op.number("upscale_factor"))),
    }
)
