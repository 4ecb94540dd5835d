"""Loads and exports weights in our own, the authors' and timm's layouts, in train form or deployed form."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.model.checkpoints import State, holds_deployed, read_state
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec, activation_widths

SHOWN = 3  # names listed per problem in an error message
Layout = Literal["own", "apple", "timm"]
LAYOUTS: tuple[str, ...] = get_args(Layout)

_APPLE_PARTS = {
    "stem": "stage0",
    "head.fc": "linear",
    "conv_kxk": "rbr_conv",
    "conv_scale": "rbr_scale",
    "identity": "rbr_skip",
    "attn.fc1": "se.reduce",
    "attn.fc2": "se.expand",
    "act": "activation",
}
_PART = re.compile(rf"(?<![^.])({'|'.join(map(re.escape, _APPLE_PARTS))})(?![^.])")


def load_weights(model: MobileOne, source: str | os.PathLike[str] | Mapping[str, Any]) -> None:
    """Load a file or a state dict, in our own, the authors' or timm's layout, into a network of the same shape.

    Weights in train form also fit a deployed network: they are folded on the way. The reverse is refused. Everything
    is checked before the model is changed.

    Args:
        model: A network from build_model, or a deployed one from reparameterize; changed in place.
        source: A .safetensors file, a file that torch.load reads with weights_only=True, or a state dict.

    Raises InputError that names the missing, unexpected or differently shaped tensors, or the unreadable file.
    """
    name, state = read_state(source)
    deployed = holds_deployed(state)
    if deployed and not model.deployed:
        raise InputError(f"{name}: it contains the deployed form, without branches; the model is in train form")
    if deployed == model.deployed:
        model.load_state_dict(_renamed(name, state, model))
        return
    with torch.device("meta"):  # a twin in train form, without memory or initial values
        twin = MobileOne(model.spec, model.num_classes)
    twin.load_state_dict(_renamed(name, state, twin), assign=True)
    model.load_state_dict(reparameterize(twin.double().eval()).state_dict())


def export_weights(model: MobileOne, layout: Layout = "own") -> State:
    """Return a copy of the weights that load_state_dict(strict=True) of the target code accepts.

    Args:
        model: A network in train form or deployed form; the weights are in the same form.
        layout: "own", "apple" (the authors' code) or "timm". Our layout equals timm's where timm has the layer.

    Raises InputError if the other code cannot represent the network.
    """
    require_representable(model.spec, model.deployed, layout)
    return {rename(name, layout): value.detach().clone() for name, value in model.state_dict().items()}


def rename(name: str, layout: str) -> str:
    """Translate our name of a parameter or buffer to another layout; timm uses our names."""
    if layout != "apple":
        return name
    name = re.sub(r"^stages\.(\d+)", lambda match: f"stage{int(match[1]) + 1}", name)
    return _PART.sub(lambda match: _APPLE_PARTS[match[1]], name)


def layout_of(names: Iterable[str]) -> Layout:
    """Detect the layout of a state dict: the authors' has names that start with stage0."""
    return "apple" if any(name.startswith("stage0.") for name in names) else "own"


def require_representable(spec: ModelSpec, deployed: bool, layout: str) -> None:
    """Raise InputError if the authors' or timm's code cannot represent the network.

    Strides and activations without parameters are not part of a state dict: the receiving network must have the same.
    """
    require_choice("layout", layout, LAYOUTS)
    if layout == "own":
        return
    fixed = activation_widths(spec.activation, 1) is None
    require(fixed, "activation", spec.activation, f"the {layout} layout cannot hold its parameters")
    if not deployed:
        allowed = f"the {layout} layout needs {{}} in train form; reparameterize the model to export it"
        require(spec.reparam, "reparam", spec.reparam, allowed.format("reparam=True"))
        require(spec.stem_k == 1, "stem_k", spec.stem_k, allowed.format("stem_k=1"))
    if layout == "apple":
        require(len(spec.widths) == 4, "widths", spec.widths, "the apple layout needs four stages")
        placements = ((0, 0, 0, 0), (0, 0, spec.depths[2] // 2, spec.depths[3]))
        require(spec.se_blocks in placements, "se", spec.se, "the apple layout needs 'none' or 'paper'")


def _renamed(name: str, state: State, model: MobileOne) -> State:
    """Return the state under our names. Raises InputError unless all names and shapes fit the model."""
    layout = layout_of(state)
    current = model.state_dict()
    expected = {rename(key, layout): key for key in current}
    shared = [key for key in expected if key in state]
    problems = [
        _listed("missing", [key for key in expected if key not in state]),
        _listed("unexpected", [key for key in state if key not in expected]),
        _listed("of another shape", _differing({key: (state[key], current[expected[key]]) for key in shared})),
    ]
    if any(problems):
        raise InputError(f"{name} does not fit the model: {'; '.join(filter(None, problems))}")
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
