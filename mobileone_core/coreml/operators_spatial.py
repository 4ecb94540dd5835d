"""Operators over spatial positions of feature maps (N, C, H, W): convolution, pooling, padding, resampling."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, Operator

PAD_TYPES = ("valid", "custom", "same", "same_lower")
FORMS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def _padded(inputs: Inputs, x: Tensor, value: float, *window: Sequence[int]) -> Tensor:
    """Pad x with value as pad_type requires; window: kernel, stride and dilation per spatial axis.

    With "same" there are ceil(size / stride) output positions.
    """
    kind = inputs.text("pad_type", PAD_TYPES, "valid")
    pads = inputs.ints("pad", [0] * 2 * (x.dim() - 2))
    if kind == "valid":
        return x
    if kind != "custom":
        pads = []
        for length, taps, step, gap in zip(x.shape[2:], *window, strict=True):
            total = max(0, (-(-length // step) - 1) * step + (taps - 1) * gap + 1 - length)
            less, more = total // 2, total - total // 2
            pads += [more, less] if kind == "same_lower" else [less, more]
    return F.pad(x, _torch_pads(pads), value=value) if any(pads) else x


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """Reorder (before, after) pairs from first axis first to F.pad's last axis first."""
    pairs = [list(pads[index : index + 2]) for index in range(0, len(pads), 2)]
    return [item for pair in reversed(pairs) for item in pair]


def conv(inputs: Inputs) -> Tensor:
    """Convolution in one to three spatial axes."""
    x, weight = inputs.tensor("x"), inputs.tensor("weight")
    if weight.dim() not in FORMS:
        raise inputs.refusal("weight", tuple(weight.shape), "supported: 3 to 5 axes")
    ones = [1] * (weight.dim() - 2)
    stride, dilation = inputs.ints("strides", ones), inputs.ints("dilations", ones)
    x = _padded(inputs, x, 0.0, weight.shape[2:], stride, dilation)
    groups = int(inputs.number("groups", 1))
    return FORMS[weight.dim()](x, weight, inputs.optional("bias"), stride, 0, dilation, groups)


def _window(inputs: Inputs) -> tuple[list[int], list[int]]:
    """Kernel and stride of a pooling."""
    kernel = inputs.ints("kernel_sizes")
    if len(kernel) != 2:
        raise inputs.refusal("kernel_sizes", kernel, "supported: two spatial axes")
    return kernel, inputs.ints("strides", [1, 1])


def max_pool(inputs: Inputs) -> Tensor:
    """Max pooling; ceil_mode, where the last window may exceed the border, is supported without padding only."""
    window, x, ceil_mode = _window(inputs), inputs.tensor("x"), inputs.flag("ceil_mode")
    padded = _padded(inputs, x, -torch.inf, *window, [1, 1])
    if ceil_mode and padded.shape != x.shape:
        raise inputs.refusal("ceil_mode", ceil_mode, "supported: without padding")
    return F.max_pool2d(padded, *window, ceil_mode=ceil_mode)


def avg_pool(inputs: Inputs) -> Tensor:
    """Average pooling, with or without the padding in the average."""
    window, x = _window(inputs), inputs.tensor("x")
    inputs.only("ceil_mode", 0)
    mean = F.avg_pool2d(_padded(inputs, x, 0.0, *window, [1, 1]), *window)
    if not inputs.flag("exclude_padding_from_average"):
        return mean
    return mean / F.avg_pool2d(_padded(inputs, torch.ones_like(x[:1, :1]), 0.0, *window, [1, 1]), *window)


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


OPERATORS: dict[str, Operator] = {
    **{function.__name__: function for function in (conv, max_pool, avg_pool, pad)},
    "upsample_nearest_neighbor": _upsampled,
    "upsample_bilinear": _upsampled,
    "pixel_shuffle": lambda op: F.pixel_shuffle(op.tensor("x"), int(op.number("upscale_factor"))),
}
