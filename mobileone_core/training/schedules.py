"""Learning rate and weight decay as functions of progress: the fraction of optimizer steps already taken."""

import math

from mobileone_core.training.recipe import Recipe


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up from 0 to recipe.lr, then a cosine to 0 at progress 1."""
    warmup = recipe.warmup_epochs / recipe.epochs
    if warmup > 0 and progress <= warmup:
        return recipe.lr * progress / warmup
    return _cosine(recipe.lr, 0.0, (progress - warmup) / (1 - warmup))


def weight_decay(recipe: Recipe, progress: float) -> float:
    """A cosine from recipe.weight_decay to weight_decay_end (section 3.4); constant where there is no end."""
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return _cosine(recipe.weight_decay, recipe.weight_decay_end, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
