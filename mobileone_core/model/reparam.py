"""Folds the branches of every block into one convolution: train form to deployed form."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.expand.branches import Branch
from mobileone_core.model.expand.conversion import fold
from mobileone_core.model.layers import ConvNorm, block_conv, identity_kernel, in_float64, scale_and_bias
from mobileone_core.model.spec import BlockSpec

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def reparameterize(model: AnyModule) -> AnyModule:
    """Return a copy of a network, or of any module with MobileOne blocks, with every block in deployed form.

    Convolutions that were expanded are folded back, as fold does.

    Folding is exact (section 3.3): computed in float64, then rounded to the parameters' dtype. The model itself does
    not change. In the copy, a block's convolution requires gradients if any parameter of its branches did; devices,
    training modes, hooks and buffers of all modules but the branches are as they were. Hooks on branches are dropped.

    Args:
        model: The module. The BN of every branch must be in evaluation mode; it may be SyncBatchNorm, another subclass,
            or torchvision's FrozenBatchNorm2d.

    Raises InputError (a ValueError) in train mode, where batch normalization uses batch statistics, and for branches
    that no convolution equals.

    >>> from mobileone_core.model.network import build_model
    >>> deployed = reparameterize(build_model("tiny", num_classes=10).eval())
    >>> sum(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    0
    """
    for block in _train_form(model):
        if any(norm.training for branch in block.branches() for norm in _norms(branch)):
            raise InputError(
                "model: it is in train mode, and only evaluation mode can be folded; call model.eval() first"
            )
    deployed = fold(model)
    for block in _train_form(deployed):
        _deploy(block)
    return deployed


def _train_form(model: nn.Module) -> list[MobileOneBlock]:
    return [part for part in model.modules() if isinstance(part, MobileOneBlock) and not part.deployed]


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
    trains = any(value.requires_grad for branch in block.branches() for value in branch.parameters())
    conv.weight = nn.Parameter(kernel.to(like.device, like.dtype), trains)
    conv.bias = nn.Parameter(bias.to(like.device, like.dtype), trains)
    block.reparam_conv = conv.train(block.training)
    block.conv_kxk, block.conv_scale, block.identity = nn.ModuleList().train(block.training), None, None


def _fold_branch(branch: nn.Module, spec: BlockSpec) -> tuple[Tensor, Tensor]:
    if isinstance(branch, Branch):
        return branch.fold()
    weight = (
        in_float64(branch.conv.weight)
        if isinstance(branch, ConvNorm)
        else identity_kernel(spec.in_channels, spec.groups)
    )
    scale, bias = scale_and_bias(_norms(branch)[0])
    border = (spec.kernel_size - weight.shape[-1]) // 2
    return F.pad(weight * scale.view(-1, 1, 1, 1), [border] * 4), bias


def _norms(branch: nn.Module) -> list[Any]:
    """The normalizations of a branch; a skip branch is one."""
    return branch.norms if isinstance(branch, Branch) else [branch.bn if isinstance(branch, ConvNorm) else branch]
