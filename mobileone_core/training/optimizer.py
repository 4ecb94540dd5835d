"""The optimizer of a recipe: parameter groups and what steps them."""

from torch import nn, optim

from mobileone_core.training.recipe import Recipe


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Two groups, decayed and not: biases and normalization layers (tensors of one axis or none) keep their size
    unless recipe.decay_norm_and_bias. decay says whether the schedule's weight decay applies."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 or recipe.decay_norm_and_bias]
    spared = [p for p in trained if not (p.ndim > 1 or recipe.decay_norm_and_bias)]
    groups: list[dict[str, object]] = [{"params": decayed, "decay": True}, {"params": spared, "decay": False}]
    return [
        {**group, "weight_decay": recipe.weight_decay * bool(group["decay"])} for group in groups if group["params"]
    ]


def build_optimizer(network: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """SGD, or AdamW with recipe.momentum as its first beta."""
    groups = parameter_groups(network, recipe)
    # Lightning won't clip in mixed precision what a fused step may unscale by itself
    fused = recipe.precision == "32" or not recipe.clip_norm
    if recipe.optimizer == "adamw":
        return optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)
    return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)
