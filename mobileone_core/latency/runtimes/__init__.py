"""Runtimes by name: what each needs here, and how it opens a network. None is imported before it is used."""

from importlib import import_module
from importlib.util import find_spec

from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import Runtime
from mobileone_core.latency.runtimes.session import Opener, SessionSource

HOMES = {
    "onnxruntime": "onnx_runtime",
    "torch": "torch_eager",
    "torch_compile": "torch_compiled",
    "openvino": "open_vino",
    "cuda": "torch_cuda",
    "cuda_graph": "torch_cuda",
}
PACKAGES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}
CURES = {"openvino": "pip install '.[openvino]'", "onnxruntime": "pip install onnxruntime onnx onnxscript"}
OF_GRAPHS = ("onnxruntime", "openvino")  # they choose a layout themselves


def require_runtime(runtime: Runtime) -> None:
    """Raise InputError, with the cure, where a runtime cannot run here or not so. Quick: torch only for CUDA."""
    name = runtime.name
    missing = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        raise InputError(f"runtime: {name} needs {' and '.join(missing)}, not installed here; {CURES[name]}")
    if name == "onnxruntime":
        allowed = "float32, as its CPU provider computes; openvino and torch take others"
        require(runtime.precision == "float32", "precision", runtime.precision, allowed)
    if name in OF_GRAPHS:
        allowed = f"contiguous, since {name} chooses its own; torch takes others"
        require(runtime.layout == "contiguous", "layout", runtime.layout, allowed)
    if name.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"runtime: {name} needs a CUDA device, and torch sees none here; use onnxruntime or torch")


def prepare(source: SessionSource) -> Opener:
    """Convert a network for its runtime, once; the result opens it, each time afresh.

    Raises what require_runtime does, UnmeasuredError, and whatever the runtime's library raises.
    """
    require_runtime(source.runtime)
    home = import_module(f"{__name__}.{HOMES[source.runtime.name]}")
    opener: Opener = home.prepare(source)
    return opener
