"""Reads weight files without executing code in them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileone_core.errors import InputError

State = dict[str, Tensor]
WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the weights
PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning modules, torch.compile


def read_state(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, State]:
    """Read tensors by name, without wrappers and common prefixes; also return the source's name for messages.

    source is a .safetensors file, another file that torch.load reads with weights_only=True, or a state dict.
    Raises InputError if the file is missing, broken or contains more than weights.
    """
    if isinstance(source, Mapping):
        return "the state dict", _unwrap("the state dict", source)
    name = str(source)
    return name, _unwrap(name, _read_file(Path(source)))


def holds_deployed(state: Mapping[str, Any]) -> bool:
    """Return whether a state dict, in any layout, is that of a network in deployed form."""
    return any("reparam_conv" in name for name in state)


def _read_file(path: Path) -> object:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # a broken file can raise nearly any exception, with a message of many lines
        reason = f"it is broken, or contains more than weights ({type(error).__name__})"
        raise InputError(f"{path}: not a readable weight file; {reason}") from error


def _unwrap(name: str, content: object) -> State:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise InputError(f"{name}: it contains a {type(content).__name__}, not a state dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InputError(f"{name}: entry {key!r} is a {type(value).__name__}, not a dense tensor with a name")
    return _without_prefixes(dict(content))


def _without_prefixes(state: State) -> State:
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return _without_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state
