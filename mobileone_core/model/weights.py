"""Loads and exports weights in our own, the authors' and timm's layouts, in train form or deployed form."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mobileone_core.errors import InputError, listed, require, require_choice
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.checkpoints import HEADS, State, WeightSet, read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec, activation_widths

Layout = Literal["own", "apple", "timm"]
Head = Literal["strict", "new"]
# not part of a network: AveragedModel's and MMEngine's counters, what thop counts per layer
_IGNORED = re.compile(r"n_averaged|steps|(.*\.)?(total_ops|total_params)")

# our names of stem, head and the parts of a block, as other code names them; timm uses ours
_PARTS = {
    "apple": {
        "stem": "stage0",
        "head.fc": "linear",
        "conv_kxk": "rbr_conv",
        "conv_scale": "rbr_scale",
        "identity": "rbr_skip",
        "attn.fc1": "se.reduce",
        "attn.fc2": "se.expand",
        "act": "activation",
    },
    "mmpretrain": {
        "stem": "stage0",
        "conv_kxk": "branch_conv_list",
        "conv_scale": "branch_scale",
        "identity": "branch_norm",
        "reparam_conv": "branch_reparam",
        "bn": "norm",
        "attn.fc1": "se.conv1.conv",
        "attn.fc2": "se.conv2.conv",
    },
}


def load_weights(
    model: MobileOne,
    source: str | os.PathLike[str] | Mapping[str, Any] | WeightSet,
    *,
    which: str = "auto",
    head: Head = "strict",
) -> WeightSet:
    """Load weights from a file or state dict of any known layout and training program into a network.

    Read are the layouts of this package, timm, the authors and mmpretrain, under any prefix and in the checkpoints of
    Lightning, timm, torchvision, MMEngine and others. Weights in train form also fit blocks in deployed form: they are
    folded on the way. The reverse is refused. Everything is checked before the first tensor is written.

    Args:
        model: A network from build_model, or one from reparameterize; changed in place. One with num_classes=0 takes
            no classifier.
        source: A .safetensors file, a file that torch.load reads with weights_only=True, or a state dict.
        which: Which weights to take if there are several: "auto" the averaged ones (EMA, SWA), as evaluations do, and
            logs a line that says so; "ema" or "model" the averaged or the others; or a set's name in the file.
        head: "strict" loads the classifier. "new" leaves the network's own as it is, for another number of classes.

    Returns:
        What was loaded; print it, or read its attributes name, averaged, others and head.

    Raises InputError that names missing, unexpected, differently shaped or infinite tensors, or the unreadable file.

    >>> from mobileone_core.model.network import build_model
    >>> trained, fresh = build_model("tiny", num_classes=10), build_model("tiny", num_classes=4)
    >>> loaded = load_weights(fresh, {"state_dict": trained.state_dict()}, head="new")
    >>> print(loaded)
    weights state_dict of the state dict; the head is new: its classifier has 10 classes
    """
    require(isinstance(model, MobileOne), "model", type(model).__name__, "a MobileOne, without wrappers around it")
    require_choice("head", head, get_args(Head))
    if any(value.is_meta for value in model.state_dict().values()):
        raise InputError("model: it is on the meta device, without memory; model.to_empty(device='cpu') gives it some")
    chosen = source if isinstance(source, WeightSet) else read_weights(source, which)
    layout, without_head = layout_of(chosen.state), head == "new" or not model.num_classes
    state = _fitted(chosen.source, chosen.state, model, layout, without_head)
    model.load_state_dict(state, strict=False)  # the names are checked, except those of a head that stays
    loaded = replace(chosen, head="loaded" if not without_head else "new" if model.num_classes else "none")
    if which == "auto" and chosen is not source and chosen.others:
        logging.getLogger(__name__).warning("load_weights: %s", loaded)
    return loaded


def export_weights(model: MobileOne, layout: Layout = "own") -> State:
    """Return a copy of the weights that load_state_dict(strict=True) of the target code accepts.

    Args:
        model: A network in train form or deployed form; the weights are in the same form.
        layout: "own", "apple" (the authors' code) or "timm". Our layout equals timm's where timm has the layer.

    Raises InputError if the other code cannot represent the network.

    >>> from mobileone_core.model.network import build_model
    >>> state = export_weights(build_model("tiny", num_classes=10), layout="apple")
    >>> state["linear.weight"].shape
    torch.Size([10, 128])
    """
    require_representable(model.spec, model.deployed, layout)
    return {rename(name, layout): value.detach().clone() for name, value in model.state_dict().items()}


def rename(name: str, layout: str) -> str:
    """Translate our name of a parameter or buffer to another layout; timm uses our names."""
    if layout not in _PARTS:
        return name
    name = re.sub(r"^stages\.(\d+)", lambda match: f"stage{int(match[1]) + 1}", name)
    parts = _PARTS[layout]
    return re.sub(rf"(?<![^.])({'|'.join(map(re.escape, parts))})(?![^.])", lambda match: parts[match[1]], name)


def layout_of(names: Iterable[str]) -> str:
    """Detect the layout of a state dict by the names of its first block: own (also timm's), apple or mmpretrain."""
    first = [name for name in names if name.startswith("stage0.")]
    return "own" if not first else "mmpretrain" if any("branch_" in name for name in first) else "apple"


def require_representable(spec: ModelSpec, deployed: bool, layout: str) -> None:
    """Raise InputError if the authors' or timm's code cannot represent the network.

    Strides and activations without parameters are not part of a state dict: the receiving network must have the same.
    """
    require_choice("layout", layout, get_args(Layout))
    if layout == "own":
        return
    allowed = f"the {layout} layout's code has no dilation: 32"
    require(spec.reduction == replace(spec, output_stride=32).reduction, "output_stride", spec.output_stride, allowed)
    fixed = activation_widths(spec.activation, 1) is None
    require(fixed, "activation", spec.activation, f"the {layout} layout cannot hold its parameters")
    if not deployed:
        allowed = f"the {layout} layout needs {{}} in train form; reparameterize the model to export it"
        require(spec.reparam, "reparam", spec.reparam, allowed.format("reparam=True"))
        fits = spec.block_method in ("mobileone", "repvgg")
        require(fits, "block_method", spec.block_method, allowed.format("mobileone"))
        require(spec.stem_k == 1, "stem_k", spec.stem_k, allowed.format("stem_k=1"))
    if layout == "apple":
        require(len(spec.widths) == 4, "widths", spec.widths, "the apple layout needs four stages")
        placements = ((0, 0, 0, 0), (0, 0, spec.depths[2] // 2, spec.depths[3]))
        require(spec.se_blocks in placements, "se", spec.se, "the apple layout needs 'none' or 'paper'")


def _fitted(source: str, state: State, model: MobileOne, layout: str, without_head: bool) -> dict[str, Tensor]:
    """The state under our names, in the form of each of the model's blocks. Raises InputError unless all of it fits."""
    blocks = {name: part for name, part in model.named_modules() if isinstance(part, MobileOneBlock)}
    is_deployed = {name: rename(f"{name}.reparam_conv.weight", layout) in state for name in blocks}
    branchless = [name for name, block in blocks.items() if is_deployed[name] and not block.deployed]
    if branchless:
        which = "" if len(branchless) == len(blocks) else f" of {', '.join(branchless[:3])}"
        form = f"it contains the deployed form{which}, without branches; the model is in train form"
        raise InputError(f"{source}: {form}")
    folded = [name for name, block in blocks.items() if block.deployed and not is_deployed[name]]
    if not folded:
        return _renamed(source, state, model, layout, without_head)
    with torch.device("meta"):  # a twin with blocks in the file's form, without memory or initial values
        twin = MobileOne(model.spec, model.num_classes)
        for name in (name for name in blocks if is_deployed[name]):
            twin.set_submodule(name, MobileOneBlock(blocks[name].spec, model.spec.activation, deployed=True))
    twin.load_state_dict(_renamed(source, state, twin, layout, without_head), strict=False, assign=True)
    for name in folded:
        twin.set_submodule(name, reparameterize(twin.get_submodule(name).double().eval()))
    return _renamed(source, twin.state_dict(), model, "own", without_head)


def _renamed(source: str, state: State, model: MobileOne, layout: str, without_head: bool) -> dict[str, Tensor]:
    """The state under our names. Raises InputError unless all names and shapes fit the model."""
    current = model.state_dict()
    is_head = HEADS if without_head else ()
    expected = {rename(key, layout): key for key in current if not key.startswith(is_head)}
    given = {key: value for key, value in state.items() if not _IGNORED.fullmatch(key) and not key.startswith(is_head)}
    for key, value in ((key, given[key]) for key in expected if key in given):
        is_dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not is_dense or value.is_meta or value.is_quantized:
            raise InputError(f"{source}: entry {key!r} is a {type(value).__name__}, not a dense tensor with a name")
    counters = [key for key in expected if key not in given and key.endswith("num_batches_tracked")]  # of old files
    given |= {key: torch.zeros((), dtype=torch.long, device="cpu") for key in counters}
    shared = [key for key in expected if key in given]
    pairs = {key: (_shape(given[key]), _shape(current[expected[key]])) for key in shared}
    broken = [key for key in shared if not given[key].to(current[expected[key]].dtype).isfinite().all()]
    shapes = [f"{key} (given {one}, the model's {wanted})" for key, (one, wanted) in pairs.items() if one != wanted]
    problems = [
        _listed("missing", [key for key in expected if key not in given]),
        _listed("unexpected", [key for key in given if key not in expected and isinstance(given[key], Tensor)]),
        _listed("of another shape", shapes),
        _listed("with NaN or infinity in the model's dtype", broken),
    ]
    if any(problems):
        only_head = not any(problems[1::2]) and all(key.startswith(HEADS) for key in {*expected} - {*given} | {*shapes})
        hint = "; head='new' keeps the model's own classifier" if only_head else ""
        method = "" if model.spec.block_method == "mobileone" else f", whose block_method is {model.spec.block_method}"
        raise InputError(f"{source} does not fit the model{method}: {'; '.join(filter(None, problems))}{hint}")
    return {expected[key]: given[key].detach() for key in shared}


def _shape(values: Tensor) -> str:
    kind = "" if values.is_floating_point() or not values.dim() else f" of {values.dtype}"
    return f"{tuple(values.shape)}{kind}"


def _listed(kind: str, names: Sequence[str]) -> str:
    return f"{len(names)} {kind}: {listed(names)}" if names else ""
