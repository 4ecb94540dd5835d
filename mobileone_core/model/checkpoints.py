"""Finds the weights in files and state dicts of training programs, without executing code in them."""

import argparse
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from mobileone_core.errors import InputError, listed, require

State = dict[str, Any]  # dense tensors by name, and what else a file has under such names
FIRST_BLOCK = (
    r"(stem\.(conv_kxk\.0|reparam_conv)|stage0\.(rbr_conv\.0|reparam_conv|branch_conv_list\.0|branch_reparam))\."
)
LOOKED_FOR = "stem.* (this package, timm) or stage0.* (the authors, mmpretrain) under any prefix"
HEADS = ("head.fc.", "linear.")  # the classifier's names: ours, timm's and mmpretrain's, and the authors'
SHOWN = 6  # entries of a file listed in a message
MAX_DEPTH = 4  # of nested mappings
# names of modules that wrap others: DataParallel and AveragedModel, torch.compile, FSDP, activation checkpoints
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# in a set's name; the last decides
_MARKS = re.compile(r"(?<![a-z])(?:(ema|swa|avg|averaged?|shadow|polyak)|online|current|raw)(?![a-z])")


@dataclass(frozen=True)
class WeightSet:
    """One of the sets of weights that a file or state dict holds; as text, one line about it.

    Attributes:
        source: The file, or "the state dict".
        name: The set's name there, such as state_dict_ema; "weights" if nothing wraps them.
        averaged: Whether the file calls them averaged.
        state: Tensors under the file's names, without prefixes.
        others: Names of the sets that were not chosen.
        head: "loaded"; "new" if load_weights left the network's classifier as it was, "none" if it has none.
    """

    source: str
    name: str
    averaged: bool
    state: State = field(repr=False)
    others: tuple[str, ...] = ()
    head: str = "loaded"

    @property
    def deployed(self) -> bool:
        """Whether any block is in deployed form."""
        return any("reparam" in name for name in self.state)

    @property
    def is_weights(self) -> bool:
        """Whether it holds tensors, and not those of an optimizer, nor shapes or flags by name.

        Lightning's StochasticWeightAveraging keeps a network whose BN statistics are those of its first epoch.
        """
        has_tensors = any(isinstance(value, Tensor) for value in self.state.values())
        unread = r"(?<![a-z])optim(izers?)?(?![a-z])|^callbacks/stochasticweightaveraging/"
        return has_tensors and not re.search(unread, self.name.lower())

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier; 0 if there is none."""
        weights = (self.state.get(f"{head}weight") for head in HEADS)
        return next((len(weight) for weight in weights if isinstance(weight, Tensor) and weight.dim() > 1), 0)

    def __str__(self) -> str:
        kind = "averaged weights" if self.averaged else "weights"
        name = f" {self.name}" if self.name != "weights" else ""
        others = f", which also holds {', '.join(self.others)}" if self.others else ""
        head = f"; the head is new: its classifier has {self.num_classes or 'no'} classes" if self.head == "new" else ""
        return f"{kind}{name} of {self.source}{others}{head}"


def read_weights(
    source: str | os.PathLike[str] | Mapping[str, Any], which: str = "auto", first: str = FIRST_BLOCK
) -> WeightSet:
    """Read one set of weights from a .safetensors file, a file of torch.save, or a mapping.

    Wrapping entries and prefixes may be any: a set is where names of a network's first block are.

    Args:
        source: The file, which is read with weights_only=True, or the content of one.
        which: "ema" for averaged weights, "model" for those that are not, "auto" for averaged ones if there are any;
            or the name of a set.
        first: Pattern of the names by which a set is recognized.

    Raises InputError if the file is missing, broken, or holds no such set or several.
    """
    require(isinstance(source, str | os.PathLike | Mapping), "source", type(source).__name__, "a path or a state dict")
    name, content = ("the state dict", source) if isinstance(source, Mapping) else (str(source), _read(Path(source)))
    if not isinstance(content, Mapping):
        raise InputError(f"{name}: it contains a {type(content).__name__}, not a state dict")
    found = list(_sets(name, content, re.compile(rf"((?:.*\.)?){first}")))
    found = [item for item in found if item.is_weights] or found
    if not found:
        held = listed([*map(str, content)], SHOWN) or "nothing"
        looked_for = LOOKED_FOR if first == FIRST_BLOCK else first
        raise InputError(f"{name}: no weights of such a network; looked for {looked_for}; it holds {held}")
    return _choose(found, which)


def _choose(found: Sequence[WeightSet], which: str) -> WeightSet:
    source, names = found[0].source, [item.name for item in found]
    if which in names:
        chosen = [item for item in found if item.name == which]
    elif which == "auto":
        chosen = [item for item in found if item.averaged] or list(found)
    else:
        allowed = f"auto, ema, model or a set of {source}: {', '.join(names)}"
        require(which in ("ema", "model"), "which", which, allowed)
        chosen = [item for item in found if item.averaged == (which == "ema")]
        held = [f"{item.name} ({'averaged' if item.averaged else 'not averaged'})" for item in found]
        require(bool(chosen), "which", which, f"{source} holds {', '.join(held)}")
    require(len(chosen) == 1, "which", which, f"{source} holds several: name one of {', '.join(names)}")
    return replace(chosen[0], others=tuple(name for name in names if name != chosen[0].name))


def _sets(
    source: str, content: Mapping[Any, Any], first: re.Pattern[str], path: str = "", averaged: bool | None = None
) -> Iterator[WeightSet]:
    """Yield every set of weights in nested mappings; averaged overrides what names tell."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    unwrapped = {_WRAPPERS.sub("", key): value for key, value in named.items()}
    named = unwrapped if len(unwrapped) == len(named) else named
    prefixes = sorted({match[1] for key in named if (match := first.match(key))}, key=len, reverse=True)
    states: dict[str | None, State] = {prefix: {} for prefix in (*prefixes, None)}
    for key, value in named.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        states[prefix][key.removeprefix(prefix or "")] = value
    for prefix in reversed(prefixes):
        name = "/".join(filter(None, (path, prefix.rstrip("."))))
        marks = [match[1] for match in _MARKS.finditer(name.lower())]
        by_name = "n_averaged" in named or any(marks[-1:])
        state = _outer_head(prefix, states[None]) | states[prefix]
        yield WeightSet(source, name or "weights", by_name if averaged is None else averaged, state)
    swapped = _swaps(content)
    for key, value in content.items():
        inner = key == "state_dict" if swapped else None
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Mapping) and path.count("/") < MAX_DEPTH:
                yield from _sets(source, item, first, f"{path}/{key}" if path else str(key), inner)


def _outer_head(prefix: str, rest: State) -> State:
    """The classifier next to a network under a prefix: head.fc.weight next to backbone.stem and so on."""
    outer = prefix[: prefix.rstrip(".").rfind(".") + 1]
    names = {key: key.removeprefix(outer) for key in rest if key.startswith(outer)}
    return {name: rest[key] for key, name in names.items() if name.startswith(HEADS)}


def _swaps(content: Mapping[Any, Any]) -> bool:
    """Whether state_dict is the averaged one, as Lightning's WeightAveraging and MMEngine's EMAHook write it."""
    meta = content.get("meta")
    by_mmengine = isinstance(meta, Mapping) and "mmengine_version" in meta and "ema_state_dict" in content
    return by_mmengine or "averaging_state" in content


def is_safetensors(path: Path) -> bool:
    """Whether a file is a .safetensors file, by its name or, under another one, by its first bytes: a length, JSON."""
    with path.open("rb") as file:
        return path.suffix.lower() == ".safetensors" or file.read(9)[8:] == b"{"


def _read(path: Path) -> object:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # a broken file can raise nearly any exception, with a message of many lines
        foreign = re.search(r"(?<=GLOBAL )\S+|TorchScript archive", str(error))
        reason = f"it is broken, or contains more than weights ({foreign[0] if foreign else type(error).__name__})"
        raise InputError(f"{path}: not a readable weight file; {reason}") from error


def _plain_types() -> list[Any]:
    """Classes without behaviour that training programs save next to weights: arguments, paths, NumPy's scalars."""
    from _codecs import encode

    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    names = ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
    paths = [(kind, f"pathlib{part}.{name}") for part in ("", "._local") for kind, name in names]
    return [argparse.Namespace, encode, np.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar"), *paths]
