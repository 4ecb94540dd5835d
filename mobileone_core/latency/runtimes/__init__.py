"""Runtimes by name: the packages each needs, and how it opens a network. A runtime is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}
INSTALL = {"openvino": "pip install '.[openvino]'", "onnxruntime": "pip install onnxruntime onnx onnxscript"}


class UnmeasuredError(InputError):
    """A network has no latency: no library has it, its runtime cannot take it, or its outputs are wrong."""


@dataclass(frozen=True)
class Session:
    """A network opened in a runtime, with its image.

    call: one inference, complete when it returns. output: runs one inference and returns its result, (1, num_classes)
    float32 on the CPU. tags: runtime_version, provider, and threads, precision and layout as the runtime reports them.
    timer: runs one inference and returns its milliseconds, for a runtime with a better clock than the host's.
    """

    call: Callable[[], object]
    output: Callable[[], Tensor]
    tags: Mapping[str, str]
    timer: Callable[[], float] | None = None


Opener = Callable[[], Session]


@dataclass(frozen=True)
class SessionSource:
    """A network to open: in evaluation mode, float32, on the CPU; it is not changed. images: (1, C, S, S).

    folder: an empty directory for files that sessions are opened from.
    """

    network: nn.Module
    images: Tensor
    runtime: Runtime
    folder: Path


def require_runtime(runtime: Runtime) -> None:
    """Raise InputError, which says what to install or change, if a runtime cannot run here as requested."""
    name = runtime.name
    missing = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        raise InputError(f"runtime: {name} needs {' and '.join(missing)}, not installed here; {INSTALL[name]}")
    if name == "onnxruntime":
        allowed = "float32, as its CPU provider computes; openvino and torch take others"
        require(runtime.precision == "float32", "precision", runtime.precision, allowed)
    if name in PACKAGES:
        allowed = f"contiguous, since {name} chooses its own; torch takes others"
        require(runtime.layout == "contiguous", "layout", runtime.layout, allowed)
    if name.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"runtime: {name} needs a CUDA device, and torch sees none here; use onnxruntime or torch")


def prepare(source: SessionSource) -> Opener:
    """Convert a network for its runtime, once; every call of the result opens a new session.

    Raises InputError as require_runtime does, UnmeasuredError, and any error of the runtime's library.
    """
    require_runtime(source.runtime)
    module = import_module(f"{__name__}.{'onnx_file' if source.runtime.name in PACKAGES else 'pytorch'}")
    opener: Opener = module.prepare(source)
    return opener
