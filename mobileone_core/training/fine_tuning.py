"""Where training starts if not at random: weights of a file, and stages that stay as they are."""

from pathlib import Path

from torch import nn

from mobileone_core.errors import InputError, require
from mobileone_core.model.checkpoints import WeightSet, read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.model.weights import load_weights
from mobileone_core.training.recipe import Recipe, weights_digest


def load_initial(network: nn.Module, recipe: Recipe, path: Path | None) -> WeightSet | None:
    """Load the recipe's initial weights; the head stays new if the recipe says so or the file has other classes.

    Returns what was loaded, None if the recipe starts at random. Raises InputError if the file is missing, is not the
    recipe's, or does not fit.
    """
    if not recipe.init:
        return None
    if path is None or not path.is_file():
        raise InputError.of(
            "init", recipe.init, "on this machine no file with these weights is named: give --init FILE"
        )
    digest = weights_digest(path)
    require(digest == recipe.init, "init", recipe.init, f"{path} is another file: its SHA-256 begins with {digest}")
    if not isinstance(network, MobileOne):
        raise InputError.of("init", recipe.init, "this task's network takes no initial weights")
    try:
        weights = read_weights(path)
        fits = weights.num_classes == network.num_classes and recipe.head == "auto"
        return load_weights(network, weights, head="strict" if fits else "new")
    except InputError as error:
        raise InputError(f"init: {error}") from error


def freeze_stages(network: nn.Module, count: int) -> None:
    """Exclude the stem and the first stages from training, their BN in evaluation mode; 0 excludes nothing."""
    if count:
        assert isinstance(network, MobileOne)  # load_initial refuses any other
        for part in (network.stem, *network.stages[:count]):
            part.eval().requires_grad_(False)
