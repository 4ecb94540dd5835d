"""The optimizer of a recipe, and its learning rate and weight decay as functions of progress.

Progress is the fraction of all optimizer steps already taken, from 0 to 1.
"""

import math

from torch import nn, optim

from mobileone_core.training.recipe import Recipe


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Split the trainable parameters into up to two groups: with weight decay and without.

    Biases and normalization parameters (tensors of at most one axis) are not decayed unless
    recipe.decay_norm_and_bias. A group's key "decay" says whether the schedule's weight decay applies to it.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim > 1 or recipe.decay_norm_and_bias].append(parameter)
    return [
        {"params": parameters, "decay": decay, "weight_decay": recipe.weight_decay * decay}
        for decay, parameters in groups.items()
        if parameters
    ]


def build_optimizer(network: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """Build the recipe's optimizer: SGD, or AdamW with recipe.momentum as its first beta."""
    groups = parameter_groups(network, recipe)
    # Lightning won't clip in mixed precision what a fused step may unscale by itself
    fused = recipe.precision == "32" or not recipe.clip_norm
    if recipe.optimizer == "adamw":
        return optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)
    return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)


def schedule(optimizer: optim.Optimizer, recipe: Recipe, progress: float) -> None:
    """Set the learning rate and weight decay of every parameter group for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, progress)
        group["weight_decay"] = weight_decay(recipe, progress) if group["decay"] else 0.0


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up from 0 to recipe.lr, then a cosine to 0 at progress 1."""
    warmup = recipe.warmup_epochs / recipe.epochs
    if warmup > 0 and progress <= warmup:
        return recipe.lr * progress / warmup
    return _cosine(recipe.lr, 0.0, (progress - warmup) / (1 - warmup))


def weight_decay(recipe: Recipe, progress: float) -> float:
    """A cosine from recipe.weight_decay to weight_decay_end (section 3.4), or constant if that is None."""
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return _cosine(recipe.weight_decay, recipe.weight_decay_end, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
