"""Names of parameters in the authors' released code and in timm."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

from mobileone_core.errors import require
from mobileone_core.model.context import activation_widths
from mobileone_core.model.spec import ModelSpec

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


def rename(name: str, layout: str) -> str:
    """Our name of a parameter or buffer in another layout; timm's names are our own."""
    if layout != "apple":
        return name
    name = re.sub(r"^stages\.(\d+)", lambda match: f"stage{int(match[1]) + 1}", name)
    return _PART.sub(lambda match: _APPLE_PARTS[match[1]], name)


def layout_of(names: Iterable[str]) -> Layout:
    """The layout of a state dict: the authors' begins at stage0."""
    return "apple" if any(name.startswith("stage0.") for name in names) else "own"


def require_representable(spec: ModelSpec, deployed: bool, layout: str) -> None:
    """Raise InputError where the authors' or timm's code has no place for what the network holds.

    Strides, and activations without parameters, are not part of a state dict: the receiving network must agree.
    """
    require(layout in LAYOUTS, "layout", layout, f"one of {', '.join(LAYOUTS)}")
    if layout == "own":
        return
    fixed = activation_widths(spec.activation, 1) is None
    require(fixed, "activation", spec.activation, f"the {layout} layout has no place for its parameters")
    if not deployed:
        allowed = f"the {layout} layout needs {{}} in train form; reparameterize the model to export it"
        require(spec.reparam, "reparam", spec.reparam, allowed.format("reparam=True"))
        require(spec.stem_k == 1, "stem_k", spec.stem_k, allowed.format("stem_k=1"))
    if layout == "apple":
        require(len(spec.widths) == 4, "widths", spec.widths, "the apple layout needs four stages")
        placements = ((0, 0, 0, 0), (0, 0, spec.depths[2] // 2, spec.depths[3]))
        require(spec.se_blocks in placements, "se", spec.se, "the apple layout needs 'none' or 'paper'")
