"""A convolution and its batch norm as the sum of a method's branches, in the places of both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from mobileone_core.errors import InputError
from mobileone_core.model.expand.branches import KNOWN_FORWARDS, Branch, folded_kernel, in_float64, scale_and_bias
from mobileone_core.model.folded.block import folded_sum, uses_folded
from mobileone_core.model.folded.geometry import ConvPairs, Geometry
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.methods import method_branches
from mobileone_core.model.spec import BlockExecution, BlockMethod, BlockSpec

FADED = 1e-3  # of the largest: a channel's gamma below it is not divided by


@dataclass
class Origin:
    """The convolution and the norm that an expanded convolution replaced; no part of its state."""

    conv: nn.Conv2d
    norm: Any


class AfterNorm(nn.Module):
    """In the place of the norm: what that does after normalizing, timm's dropout and activation, or nothing."""

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self.origin = origin
        for name in ("drop", "act"):
            if hasattr(origin.norm, name):
                self.add_module(name, getattr(origin.norm, name))
        self.train(origin.norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        for layer in self.children():
            input = layer(input)
        return input


class ExpandedConv2d(nn.Module):
    """The sum of branches in place of a convolution and its batch norm: (N, C, H, W) to (N, O, H', W').

    The first branch has the parameters of both, except in method expandnet, where a chain has the norm's parameters and
    its product is the convolution's weight. All other branches end with a gamma of 0. A bias of the convolution, which
    the norm takes out again, goes into the norm's mean. execution says how it computes in training, as in a
    MobileOneBlock.
    """

    def __init__(self, origin: Origin, method: BlockMethod, k: int, scale: bool, skip: bool) -> None:
        super().__init__()
        conv, norm = origin.conv, origin.norm
        self.origin, self.method = origin, method
        self.execution: BlockExecution = "branches"
        self.sync_batchnorm, self.conv_scale = False, None
        self.geometry, self.is_padded = geometry_of(conv), is_padded(conv)
        plans = method_branches(method, self.geometry, k, scale, skip)
        branches = {name: Branch(self.geometry, plan, partial(_norm_like, norm)) for name, plan in plans.items()}
        main, *others = branches.values()
        if conv.bias is not None:
            with torch.no_grad():
                norm.running_mean -= conv.bias
                conv.bias.zero_()
        for branch in branches.values():
            branch.to(conv.weight.device, conv.weight.dtype)
            for layer in branch.norms:  # which networks in half precision keep in float32
                layer.to(norm.running_var.dtype)
        for branch in others:
            nn.init.zeros_(branch.norms[-1].weight)
        if method == "expandnet":
            factorize(main, conv.weight)
        else:
            main.convs[0].weight = conv.weight
        main.add_module("bn", norm_twin(norm))
        self.branches = nn.ModuleDict(branches)
        sizes = (self.geometry.kernel, self.geometry.stride, conv.groups, 1 if method == "repvgg" else k)
        spec = (conv.in_channels, conv.out_channels, *sizes, True, False, self.geometry.dilation)
        self.spec = BlockSpec(*spec, method=method) if self.geometry.kernel else None  # not measured
        self.train(norm.training)

    def __getattr__(self, name: str) -> Any:
        """A field of the convolution, such as out_channels, for code that reads it."""
        if name in nn.Conv2d.__constants__:
            return getattr(self.origin.conv, name)
        return super().__getattr__(name)

    def forward(self, input: Tensor) -> Tensor:
        """Features (N, C, H, W) to the sum of the branches (N, O, H', W')."""
        x = pad_like(self.origin.conv, input) if self.is_padded else input
        if uses_folded(self, x):
            return folded_sum(self, x)
        first, *others = self.parts()
        if self.method == "expandnet" and self.execution != "branches":
            return first.composed(x)
        out: Tensor = first(x)
        for branch in others:
            out += branch(x)  # in place: no branch needs its own output for its gradient
        return out

    @property
    def conv_kxk(self) -> list[nn.Module]:
        """The branches with convolutions."""
        return [branch for branch in self.parts() if branch.convs]

    @property
    def identity(self) -> nn.BatchNorm2d | None:
        """The batch norm of the skip branch."""
        return self.parts()[-1].norms[-1] if "skip" in self.branches else None

    def parts(self) -> list[Branch]:
        """The branches, in order."""
        return cast("list[Branch]", list(self.branches.values()))

    @torch.no_grad()
    def restore(self) -> None:
        """Write the folded branches, computed in float64, into the convolution and the norm that were replaced.

        The norm keeps the first branch's statistics, and its gamma where that can be divided by.
        """
        kernel, bias = folded_kernel(self.parts())
        conv, norm = self.origin.conv, self.origin.norm
        statistics = self.parts()[0].norms[-1]
        for name, value in statistics.state_dict().items():
            _assign(norm, name, value.clone(), value)
        if norm.affine:
            norm.weight.masked_fill_(norm.weight.abs() <= FADED * norm.weight.abs().max(), 1)
        scale, shift = scale_and_bias(norm_twin(norm))
        _assign(conv, "weight", kernel / scale.view(-1, 1, 1, 1), next(self.parameters()))
        if conv.bias is not None:
            _assign(conv, "bias", conv.weight.new_zeros(conv.bias.shape), conv.weight)
        if norm.affine:
            _assign(norm, "bias", in_float64(norm.bias) + bias - shift, norm.bias)
        else:
            _assign(norm, "running_mean", in_float64(norm.running_mean) - (bias - shift) / scale, norm.running_mean)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        given = {name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)}
        if given and given != set(self.state_dict()):
            names = sorted({name.split(".")[1] for name in given if name.startswith("branches.")})
            held = f"the branches {', '.join(names)}" if names else "none: of a network that was not expanded"
            allowed = f"the branches {', '.join(self.branches)}; expand with the plan of the saved network"
            raise InputError.of(f"state_dict: {prefix.removesuffix('.')}", held, allowed)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def is_timms(name: str, module: nn.Module) -> bool:
    """Whether a module is timm's of this name: Conv2dSame, which pads by the size of the input, or BatchNormAct2d."""
    kind = type(module)
    return kind.__name__ == name and kind.__module__.startswith("timm.") and "forward" not in vars(module)


def geometry_of(conv: nn.Conv2d) -> Geometry:
    """The geometry of a convolution, without zeros if its input is padded before."""
    left, _, top, _ = (0, 0, 0, 0) if is_padded(conv) else pads_of(conv)
    pairs = ConvPairs(cast("Any", conv.kernel_size), _pair(conv.stride), (top, left), _pair(conv.dilation))
    channels = (conv.in_channels, conv.out_channels)
    square = Geometry(conv.groups, pairs.kernel[0], pairs.stride[0], *channels, pairs.dilation[0])
    is_square = square.kernel % 2 == 1 and square.pairs == pairs
    return square if is_square else replace(square, kernel=0, stride=0, dilation=1, uncommon=pairs)


def pads_of(conv: Any) -> list[int]:
    """Pixels left, right, above and below that forward pads: it reads padding, which may have been set later."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return list(conv._reversed_padding_repeated_twice)
    vertical, horizontal = _pair(conv.padding)
    return [horizontal, horizontal, vertical, vertical]


def is_padded(conv: nn.Conv2d) -> bool:
    """Whether a convolution's input is padded before its branches see it, since not by a fixed number of zeros."""
    left, right, top, bottom = pads_of(conv)
    return conv.padding_mode != "zeros" or is_timms("Conv2dSame", conv) or left != right or top != bottom


def pad_like(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Pad x (N, C, H, W) as a convolution does whose padding is not zeros alone."""
    if not is_timms("Conv2dSame", conv):
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        return F.pad(x, pads_of(conv), mode)
    pads: list[int] = []
    for size, kernel, stride, gap in zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True):
        total = max((ceil(size / stride) - 1) * stride + gap * (kernel - 1) + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


def can_twin(norm: Any) -> bool:
    """Whether a norm is a BN with running statistics and both parameters or none, or that in timm's BatchNormAct2d."""
    is_norm = getattr(norm.forward, "__func__", None) in KNOWN_FORWARDS or is_timms("BatchNormAct2d", norm)
    has_both = norm.affine == (norm.weight is not None) == (norm.bias is not None)
    return is_norm and has_both and isinstance(getattr(norm, "running_var", None), Tensor)


def norm_twin(norm: Any) -> Any:
    """A BN with the parameters and buffers of a norm, and nothing after it."""
    twin = _norm_like(norm, norm.num_features, norm.affine)
    twin._parameters.update(norm._parameters)
    twin._buffers.update(norm._buffers)
    return twin.train(norm.training)


def _norm_like(norm: Any, channels: int, affine: bool = True) -> Any:
    if isinstance(norm, nn.SyncBatchNorm):
        return nn.SyncBatchNorm(channels, norm.eps, norm.momentum, affine, process_group=norm.process_group)
    return nn.BatchNorm2d(channels, norm.eps, norm.momentum, affine)


@torch.no_grad()
def factorize(chain: Branch, weight: Tensor) -> None:
    """Set a chain of three convolutions, of full rank, so that its product is weight (O, C / G, R, S)."""
    first, middle, last = (layer.weight for layer in chain.convs)
    groups = chain.geometry.groups
    for factor in (*first.chunk(groups), *last.chunk(groups)):
        factor.copy_(nn.init.orthogonal_(at_least_float32(factor)))  # its transpose is its inverse
    outer, old, inner = (in_float64(values).view(groups, -1, *values.shape[1:]) for values in (last, weight, first))
    middle.copy_(torch.einsum("gomab,goirs,gniab->gmnrs", outer, old, inner).flatten(0, 1))


def _assign(module: nn.Module, name: str, value: Tensor, like: Tensor) -> None:
    """Replace a parameter or a buffer by a value, in the dtype and on the device of another tensor."""
    value, old = value.to(like.device, like.dtype), getattr(module, name)
    setattr(module, name, nn.Parameter(value, old.requires_grad) if name in module._parameters else value)
