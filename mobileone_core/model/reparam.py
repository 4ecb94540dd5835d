"""Over-parameterizes a network's convolutions, and folds branches into one convolution: train form to deployed form."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mobileone_core.errors import InputError, require
from mobileone_core.model.blocks import MobileOneBlock, block_conv
from mobileone_core.model.expand.block import AfterNorm, ExpandedConv2d, Origin, norm_twin, pads_of
from mobileone_core.model.expand.branches import folded_kernel
from mobileone_core.model.expand.flow import traced
from mobileone_core.model.expand.plan import ExpandOptions, ExpansionPlan, Where, plan_network
from mobileone_core.model.spec import BlockExecution, BlockMethod

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TRAIN_MODE = "model: it is in train mode, and only evaluation mode can be folded; call model.eval() first"


def expansion_plan(model: nn.Module, *, inputs: Sequence[Any] | None = None, **options: Any) -> ExpansionPlan:
    """Return what expand with the same arguments would do with every convolution: its branches, or why it is left.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
    >>> print(expansion_plan(model, k=2))
    mobileone: 1 of 2 convolutions taken
    0 (Conv2d 3 to 8, 3x3) taken with 1: kxk_0, kxk_1, scale
    3 (Conv2d 8 to 8, 1x1) left: no batch norm reads its output
    """
    return plan_network(model, ExpandOptions(**options), inputs)[0]


def expand(  # noqa: PLR0913, PLR0917
    model: AnyModule,
    k: int = 4,
    scale: bool = True,
    skip: bool | str = "auto",
    where: Where = "auto",
    method: BlockMethod = "mobileone",
    execution: BlockExecution = "auto",
    *,
    inputs: Sequence[Any] | None = None,
) -> AnyModule:
    """Over-parameterize the convolutions of a network that batch norms follow; change the network, and return it.

    Outputs in evaluation mode stay as they are. New branches are initialized as PyTorch does and end with a batch norm
    whose gamma is 0, from where training moves them; in method expandnet the old weight stands between orthogonal 1x1
    convolutions. Call it before the optimizer is built. A saved state dict loads after expand with the same arguments.

    Args:
        model: The network, of any class.
        k: Branches with the convolution's kernel in method mobileone; in expandnet, factor of the widths.
        scale: Whether kernels larger than 1x1 get a 1x1 branch in method mobileone.
        skip: "auto" adds a batch norm of the input where shapes allow, in methods mobileone and repvgg; False does not.
        where: "auto" for all convolutions, patterns of names such as ["layer4.*"], or a function of name and module.
        method: "mobileone", "repvgg", "acnet", "dbb" or "expandnet" (model/methods.py says what they add).
        execution: How branches are computed in training, as in set_execution.
        inputs: Arguments of the network's forward, to run it once where torch.fx cannot trace it; by default images of
            64, 224, 256 and 299 pixels are tried.

    Raises InputError (a ValueError).

    >>> model = expand(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), k=2)
    >>> sorted({name.split(".")[2] for name in model.state_dict()})
    ['kxk_0', 'kxk_1', 'scale']
    >>> list(fold(model.eval()).state_dict())[:3]
    ['0.weight', '0.bias', '1.weight']
    """
    replaced: dict[nn.Module, nn.Module] = {}
    options = ExpandOptions(k, scale, skip, where, method, execution)
    _, taken, graphs = plan_network(model, options, inputs)
    for conv, norm in taken:
        origin = Origin(conv, norm)
        replaced[conv] = block = ExpandedConv2d(origin, method, k, scale, bool(skip))
        replaced[norm], block.execution = AfterNorm(origin), execution
    _replaced(model, replaced)
    after = traced(model, inputs) if taken and graphs else None
    if taken and graphs != (after.graphs if after else ""):
        _replaced(model, {new: old for old, new in replaced.items()})
        allowed = "a network whose forward does the same with layers of other classes, without isinstance"
        raise InputError.of("model", type(model).__name__, allowed)
    return model


def fold(model: AnyModule) -> AnyModule:
    """Return a copy of an expanded network as it was before expand: its class, modules and state dict's keys.

    Folding is exact in evaluation mode: computed in float64, and each convolution is compared with its branches on a
    random input. Batch norms have the first branches' statistics: train on with the expanded network, not this one.
    Raises InputError (a ValueError) in train mode, for a part of a network that has an expanded convolution without its
    norm, and if a folded convolution does not equal its branches.
    """
    if any(norm.training for block in _blocks(model) for branch in block.parts() for norm in branch.norms):
        raise InputError(TRAIN_MODE)
    folded = copy.deepcopy(model)
    norms = [part for part in folded.modules() if isinstance(part, AfterNorm)]
    is_whole = {id(norm.origin) for norm in norms} == {id(block.origin) for block in _blocks(folded)}
    require(is_whole, "model", type(model).__name__, "a network with every expanded convolution and its norm")
    replaced: dict[nn.Module, nn.Module] = {norm: norm.origin.norm.train(norm.training) for norm in norms}
    for block in _blocks(folded):
        block.restore()
        _prove(block)
        replaced[block] = block.origin.conv.train(block.training)
    return _replaced(folded, replaced)


def _blocks(model: nn.Module) -> list[ExpandedConv2d]:
    return [part for part in model.modules() if isinstance(part, ExpandedConv2d)]


def _replaced(model: AnyModule, replaced: Mapping[nn.Module, nn.Module]) -> AnyModule:
    """The network with other modules in the places of some, wherever they are registered."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in replaced:
                parent._modules[name] = replaced[child]
    return model


@torch.no_grad()
def _prove(block: ExpandedConv2d) -> None:
    """Compare a block with the convolution and norm that it is folded into, on a random input in evaluation mode."""
    conv, norm = block.origin.conv, norm_twin(block.origin.norm).eval()
    border = max(pads_of(conv))  # reflection needs as many pixels
    kernel, stride, _, dilation = block.geometry.pairs
    sizes = [border + gap * size + step for gap, size, step in zip(dilation, kernel, stride, strict=True)]
    x = _random(conv.in_channels, *sizes).to(conv.weight)
    _require_equal(norm(conv(x)), block(x), type(conv).__name__)


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, dtype=torch.float64, device="cpu")


def _require_equal(output: Tensor, expected: Tensor, name: str) -> None:
    """Raise InputError unless a folded convolution's output is that of its branches."""
    error = float((output - expected).abs().max() / expected.abs().max().clamp(min=1))
    fits, value = error <= torch.finfo(expected.dtype).eps ** 0.5, f"{name} with an error of {error:.1g}"
    require(fits, "model", value, "finite values, and branches of plain convolutions and norms alone")


def reparameterize(model: AnyModule) -> AnyModule:
    """Return a copy of a network, or of any module with MobileOne blocks, with every block in deployed form.

    Convolutions that were expanded are folded back, as fold does. A network with neither comes back as a copy: other
    libraries' blocks are not folded (timm.utils.model.reparameterize_model folds timm's).

    Folding is exact (section 3.3): computed in float64, then rounded to the parameters' dtype. The model itself does
    not change. In the copy, a block's convolution requires gradients if any parameter of its branches did; devices,
    training modes, buffers and hooks stay as they were, except that hooks of branches run once and are dropped.

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
    require(isinstance(model, nn.Module), "model", type(model).__name__, "a torch module")
    if any(norm.training for block in _train_form(model) for branch in block.branches() for norm in branch.norms):
        raise InputError(TRAIN_MODE)
    deployed = fold(model)
    for block in _train_form(deployed):
        _deploy(block)
    return deployed


def _train_form(model: nn.Module) -> list[MobileOneBlock]:
    return [part for part in model.modules() if isinstance(part, MobileOneBlock) and not part.deployed]


@torch.no_grad()
def _deploy(block: MobileOneBlock) -> None:
    branches = block.branches()
    kernel, bias = folded_kernel(branches)
    like = next(block.parameters())
    with torch.device("meta"):  # no initial values: the random state stays as it is
        conv = block_conv(block.spec)
    trains = any(value.requires_grad for branch in branches for value in branch.parameters())
    conv.weight = nn.Parameter(kernel.to(like.device, like.dtype), trains)
    conv.bias = nn.Parameter(bias.to(like.device, like.dtype), trains)
    x = _random(conv.in_channels, *(2 * size for size in conv.kernel_size))
    outputs = [branch.to("cpu", torch.float64)(x) for branch in branches]
    _require_equal(conv._conv_forward(x, kernel, bias).float(), sum(outputs).float(), type(block).__name__)
    block.reparam_conv = conv.train(block.training)
    block.conv_kxk, block.conv_scale, block.identity = nn.ModuleList().train(block.training), None, None
