"""The optimizer of a recipe, its learning rate and weight decay as functions of progress, and averaged weights.

Progress is the fraction of all optimizer steps already taken, from 0 to 1.
"""

import copy
import itertools
import math
from collections import defaultdict

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mobileone_core.training.recipe import Recipe


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Split the trainable parameters into groups: with weight decay and without, those of the head last.

    Biases and normalization parameters (tensors of at most one axis) are not decayed unless
    recipe.decay_norm_and_bias. A group's key "decay" says whether the schedule's weight decay applies to it; "factor"
    multiplies the learning rate of the head, which has groups of its own if recipe.head_lr_factor is not 1.
    """
    factor = recipe.head_lr_factor
    groups = defaultdict[tuple[float, bool], list[nn.Parameter]](list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 or recipe.decay_norm_and_bias
            groups[factor if name.startswith("head.") else 1.0, decays].append(parameter)
    return [
        {"params": groups[rate, decay], "decay": decay, "weight_decay": recipe.weight_decay * decay}
        | ({} if factor == 1 else {"factor": rate})
        for rate, decay in itertools.product(dict.fromkeys((1.0, factor)), (True, False))
        if groups[rate, decay]
    ]


def build_optimizer(network: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """Build the recipe's optimizer: SGD, or AdamW with recipe.momentum as its first beta."""
    groups = parameter_groups(network, recipe)
    # Lightning won't clip in mixed precision what a fused step may unscale by itself
    fused = recipe.precision == "32" or not recipe.clip_norm
    if recipe.optimizer == "adamw":
        return optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)
    return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)


def schedule(optimizer: optim.Optimizer, recipe: Recipe, progress: float, step: int = 0) -> None:
    """Set the learning rate and weight decay of every parameter group for the next step, the step-th from 0."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, progress, step) * group.get("factor", 1.0)
        group["weight_decay"] = weight_decay(recipe, progress) if group["decay"] else 0.0


def learning_rate(recipe: Recipe, progress: float, step: int = 0) -> float:
    """Linear warm-up from warmup_lr to lr, then a cosine to lr_end at progress 1, with lr_by_epoch in whole epochs."""
    rise = recipe.lr - recipe.warmup_lr
    if step < recipe.warmup_steps:
        return recipe.warmup_lr + rise * step / recipe.warmup_steps
    warmup = recipe.warmup_epochs / recipe.epochs
    if warmup > 0 and progress <= warmup:
        return recipe.warmup_lr + rise * progress / warmup
    if recipe.lr_by_epoch:
        progress = math.floor(progress * recipe.epochs + 1e-9) / recipe.epochs  # whole epochs, whatever was rounded
    return _cosine(recipe.lr, recipe.lr_end, max(progress - warmup, 0.0) / (1 - warmup))


def weight_decay(recipe: Recipe, progress: float) -> float:
    """A cosine from recipe.weight_decay to weight_decay_end (section 3.4), or constant if that is None."""
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return _cosine(recipe.weight_decay, recipe.weight_decay_end, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class AveragedNetwork(nn.Module):
    """average = decay * average + (1 - decay) * network after every optimizer step, from the initial weights on.

    BatchNorm's running mean and variance are averaged with the same decay as the weights, as timm's ModelEmaV2 does,
    so that they lag as far as the weights they belong to. Integer buffers (batch counters) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._floats = list[Tensor](), list[Tensor]()  # of the average, and of the network
        self._integers = list[Tensor](), list[Tensor]()

    def follow(self, network: nn.Module) -> None:
        """Choose the network to average; call it once both networks are on their device."""
        pairs = zip(self.module.state_dict().values(), network.state_dict().values(), strict=True)
        for average, current in pairs:
            averages, currents = self._floats if average.is_floating_point() else self._integers
            averages.append(average)
            currents.append(current)

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the average."""
        self._average(*self._floats, None)
        if self._integers[0]:
            torch._foreach_copy_(*self._integers)
