"""Loading and exporting weights in our own, the authors' and timm's layouts, train form or deployed form."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import State, holds_deployed, read_state
from mobileone_core.model.layouts import Layout, layout_of, rename, require_representable
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize

SHOWN = 3  # names of a kind in an error message


def load_weights(model: MobileOne, source: str | os.PathLike[str] | Mapping[str, Any]) -> None:
    """Load a file or a state dict, ours, the authors' or timm's, into a network of the same shape.

    A file in train form also fits a deployed network: it is folded on the way. The reverse is refused. Everything
    is checked before the model is changed. Raises InputError naming what is missing, unexpected or of another
    shape, or the file that cannot be read.
    """
    name, state = read_state(source)
    deployed = holds_deployed(state)
    if deployed and not model.deployed:
        raise InputError(f"{name}: it holds the deployed form, whose branches are gone; the model is in train form")
    if deployed == model.deployed:
        model.load_state_dict(_renamed(name, state, model))
        return
    with torch.device("meta"):  # a twin in train form, without memory or initial values
        twin = MobileOne(model.spec, model.num_classes)
    twin.load_state_dict(_renamed(name, state, twin), assign=True)
    model.load_state_dict(reparameterize(twin.double().eval()).state_dict())


def export_weights(model: MobileOne, layout: Layout = "own") -> State:
    """A copy of the weights that our code ("own"), the authors' ("apple") or timm's loads with strict=True.

    The form is the model's. Our own layout is timm's, with places for what timm's network lacks. Raises InputError
    for a network that the other code cannot hold.
    """
    require_representable(model.spec, model.deployed, layout)
    return {rename(name, layout): value.detach().clone() for name, value in model.state_dict().items()}


def _renamed(name: str, state: State, model: MobileOne) -> State:
    """The state under our own names, once it fits the model name by name and shape by shape."""
    layout = layout_of(state)
    own = model.state_dict()
    expected = {rename(key, layout): key for key in own}
    shared = [key for key in expected if key in state]
    problems = [
        _listed("missing", [key for key in expected if key not in state]),
        _listed("unexpected", [key for key in state if key not in expected]),
        _listed("of another shape", _differing({key: (state[key], own[expected[key]]) for key in shared})),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise InputError(f"{name} does not fit the model: {found}")
    return {expected[key]: state[key] for key in shared}


def _differing(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> list[str]:
    return [
        f"{key} (given {_shape(given)}, the model's {_shape(wanted)})"
        for key, (given, wanted) in pairs.items()
        if _shape(given) != _shape(wanted)
    ]


def _shape(values: Tensor) -> str:
    kind = "" if values.is_floating_point() or not values.dim() else f" of {values.dtype}"
    return f"{tuple(values.shape)}{kind}"


def _listed(kind: str, names: Iterable[str]) -> str:
    names = list(names)
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{more}"
