"""Runtimes that read an ONNX file: ONNX Runtime, the default, and OpenVINO, an optional dependency; both on the CPU."""

from functools import partial
from pathlib import Path

import torch

from mobileone_core.latency.runtimes import Opener, Session, SessionSource, UnmeasuredError
from mobileone_core.onnx.export import export_onnx
from mobileone_core.onnx.int8 import open_session

ONNX_FILE = "network.onnx"  # in the folder of a source
HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def prepare(source: SessionSource) -> Opener:
    """Export the network once; every session reads the file anew, and optimizes or compiles it.

    Opening raises UnmeasuredError if OpenVINO does not compute in the requested precision.
    """
    path = source.folder / ONNX_FILE
    export_onnx(source.network, source.images, path)
    return partial(_openvino if source.runtime.name == "openvino" else onnxruntime_session, source, path)


def onnxruntime_session(source: SessionSource, path: Path) -> Session:
    """A session of ONNX Runtime on a file of the source's network; it folds batch normalization itself."""
    import onnxruntime

    session = open_session(path, source.runtime.threads)
    feed = {session.get_inputs()[0].name: source.images.numpy()}
    tags = {
        "runtime_version": f"onnxruntime {onnxruntime.__version__}",
        "provider": ", ".join(session.get_providers()),
        "threads": str(session.get_session_options().intra_op_num_threads),
    }
    call = partial(session.run, None, feed)
    return Session(call, lambda: torch.from_numpy(call()[0]).float(), tags)


def _openvino(source: SessionSource, path: Path) -> Session:
    """A session of OpenVINO, which by default computes in bfloat16 on processors that support it."""
    import openvino

    precision = source.runtime.precision
    hints = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": source.runtime.threads}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {**hints, "NUM_STREAMS": 1})
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    computes = next((name for name, short in HINTS.items() if short == hint), hint)
    if computes != precision:
        raise UnmeasuredError(f"openvino: {precision} was requested, it computes in {computes} here")
    request = compiled.create_infer_request()
    request.set_tensor(compiled.input(0), openvino.Tensor(source.images.numpy()))
    tags = {
        "runtime_version": f"openvino {openvino.__version__.partition('-')[0]}",
        "provider": ", ".join(compiled.get_property("EXECUTION_DEVICES")),
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        "precision": computes,
    }

    def output() -> torch.Tensor:
        request.infer()
        return torch.from_numpy(request.get_output_tensor(0).data.copy()).float()

    return Session(request.infer, output, tags)
