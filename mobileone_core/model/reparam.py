"""Folds the branches of every block into one convolution: train form to deployed form."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.layers import ConvNorm, block_conv
from mobileone_core.model.spec import BlockSpec

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def reparameterize(model: AnyModule) -> AnyModule:
    """Return a copy of a network, or of any module with MobileOne blocks, with every block in deployed form.

    Folding is exact (section 3.3): computed in float64, then rounded to the parameters' dtype. The model itself does
    not change. Raises InputError (a ValueError) in train mode, where batch normalization uses batch statistics.

    >>> from mobileone_core.model.network import build_model
    >>> deployed = reparameterize(build_model("tiny", num_classes=10).eval())
    >>> sum(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    0
    """
    if any(module.training for module in model.modules()):
        raise InputError("model: it is in train mode, and only evaluation mode can be folded; call model.eval() first")
    deployed = copy.deepcopy(model)
    for module in deployed.modules():
        if isinstance(module, MobileOneBlock) and not module.deployed:
            _deploy(module)
    return deployed


@torch.no_grad()
def fold_block(block: MobileOneBlock) -> tuple[Tensor, Tensor]:
    """Fold a train-form block to kernel (C_out, C_in / groups, kernel, kernel) and bias (C_out), float64 on the CPU."""
    folded = [_fold_branch(branch, block.spec) for branch in block.branches()]
    kernels, biases = zip(*folded, strict=True)
    return torch.stack(kernels).sum(0), torch.stack(biases).sum(0)


def _deploy(block: MobileOneBlock) -> None:
    kernel, bias = fold_block(block)
    like = next(block.parameters())
    with torch.device("meta"):  # no initial values: the random state stays as it is
        conv = block_conv(block.spec, block.spec.kernel_size, bias=True)
    conv.weight = nn.Parameter(kernel.to(like.device, like.dtype))
    conv.bias = nn.Parameter(bias.to(like.device, like.dtype))
    block.reparam_conv = conv
    block.conv_kxk, block.conv_scale, block.identity = nn.ModuleList(), None, None
    block.eval()  # the new parts too


def _fold_branch(branch: nn.Module, spec: BlockSpec) -> tuple[Tensor, Tensor]:
    if isinstance(branch, ConvNorm):
        weight, bn = _in_float64(branch.conv.weight), branch.bn
    elif isinstance(branch, nn.BatchNorm2d):
        weight, bn = _identity_kernel(spec), branch
    else:
        raise TypeError(f"no rule folds a {type(branch).__name__}")
    border = (spec.kernel_size - weight.shape[-1]) // 2
    scale = _in_float64(bn.weight) / (_in_float64(bn.running_var) + bn.eps).sqrt()
    bias = _in_float64(bn.bias) - _in_float64(bn.running_mean) * scale
    return F.pad(weight * scale.view(-1, 1, 1, 1), [border] * 4), bias


def _identity_kernel(spec: BlockSpec) -> Tensor:
    """The 1x1 kernel that copies every channel: (C, C / groups, 1, 1)."""
    group_width = spec.in_channels // spec.groups
    columns = torch.arange(spec.in_channels) % group_width
    return F.one_hot(columns, group_width).to(torch.float64)[:, :, None, None]


def _in_float64(values: Tensor | None) -> Tensor:
    assert values is not None  # affine, with running statistics: MobileOneBlock builds no other
    return values.to("cpu", torch.float64)
