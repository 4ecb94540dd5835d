"""Runtimes by name: the packages each needs, and how it opens a network. A runtime is imported when it is used."""

from importlib import import_module
from importlib.util import find_spec

from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import Runtime
from mobileone_core.latency.runtimes.session import Opener, SessionSource

MODULES = {
    "onnxruntime": "onnx_runtime",
    "torch": "torch_eager",
    "torch_compile": "torch_compiled",
    "openvino": "open_vino",
    "cuda": "torch_cuda",
    "cuda_graph": "torch_cuda",
}
PACKAGES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}
INSTALL = {"openvino": "pip install '.[openvino]'", "onnxruntime": "pip install onnxruntime onnx onnxscript"}
GRAPH_RUNTIMES = ("onnxruntime", "openvino")  # choose the layout themselves


def require_runtime(runtime: Runtime) -> None:
    """Raise InputError, which says what to install or change, if a runtime cannot run here as requested.

    Quick: torch is imported for CUDA only.
    """
    name = runtime.name
    missing = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        raise InputError(f"runtime: {name} needs {' and '.join(missing)}, not installed here; {INSTALL[name]}")
    if name == "onnxruntime":
        allowed = "float32, as its CPU provider computes; openvino and torch take others"
        require(runtime.precision == "float32", "precision", runtime.precision, allowed)
    if name in GRAPH_RUNTIMES:
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
    module = import_module(f"{__name__}.{MODULES[source.runtime.name]}")
    opener: Opener = module.prepare(source)
    return opener
