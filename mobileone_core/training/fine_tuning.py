"""Starts training from the weights of a file instead of random ones, and freezes stages."""

import re
from pathlib import Path

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_core.errors import InputError, require
from mobileone_core.model.checkpoints import WeightSet, read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.model.weights import load_weights
from mobileone_core.training.recipe import PRETRAINING, Recipe, weights_digest


def load_initial(network: nn.Module, recipe: Recipe, path: Path | None) -> WeightSet | None:
    """Load the recipe's initial weights; the head stays new if the recipe says so or the file has other classes.

    A detector or segmenter takes those of its backbone alone. Returns what was loaded, None if the recipe starts at
    random. Raises InputError if the file is missing, is not the recipe's, or does not fit.
    """
    if not recipe.init:
        return None
    if path is None or not path.is_file():
        allowed = "on this machine no file with these weights is named: give --init FILE"
        raise InputError.of("init", recipe.init, allowed)
    digest = weights_digest(path)
    allowed = f"{path} is another file: its SHA-256 begins with {digest}"
    require(recipe.init in (digest, PRETRAINING), "init", recipe.init, allowed)
    backbone = getattr(network, "backbone", network)
    try:
        if not isinstance(backbone, MobileOne):
            if not isinstance(features := getattr(backbone, "features", None), nn.Module):
                raise InputError.of("init", recipe.init, "this task's network takes no initial weights")
            return _load_features(features, path)
        weights = read_weights(path)
        fits = weights.num_classes == backbone.num_classes and recipe.head == "auto"
        return load_weights(backbone, weights, head="strict" if fits else "new")
    except InputError as error:
        raise InputError(f"init: {error}") from error


def _load_features(features: nn.Module, path: Path) -> WeightSet:
    names = [*features.state_dict()]
    weights = read_weights(path, first=f"{re.escape(names[0])}$")
    missing = [name for name in names if name not in weights.state]
    require(not missing, "init", str(path), f"a file with {', '.join(missing[:3])}")
    features.load_state_dict({name: weights.state[name] for name in names})
    return weights


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """Exclude the backbone's stem and first stages, or all its BN, from training, as the recipe says.

    Their BN is in evaluation mode. Raises InputError for frozen stages of a library's backbone.
    """
    backbone, parts = getattr(network, "backbone", network), list[nn.Module]()
    if recipe.frozen_stages:
        if not isinstance(backbone, MobileOne):
            raise InputError.of("frozen_stages", recipe.frozen_stages, "0: the backbone is a library's")
        parts = [backbone.stem, *backbone.stages[: recipe.frozen_stages]]
    if recipe.frozen_norm:
        parts += [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    for part in parts:
        part.eval().requires_grad_(False)
