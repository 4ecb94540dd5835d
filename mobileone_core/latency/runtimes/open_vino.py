"""OpenVINO on the CPU, an optional dependency. By default it computes in bfloat16 on processors that support it."""

from mobileone_core.latency.onnx import export_onnx
from mobileone_core.latency.runtimes import Opener, Session, SessionSource, UnmeasuredError

HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
NAMES = {hint: name for name, hint in HINTS.items()}


def prepare(source: SessionSource) -> Opener:
    """Export the network once; every session reads and compiles the file anew.

    Opening raises UnmeasuredError if OpenVINO does not compute in the requested precision.
    """
    import openvino
    import torch

    path = source.folder / "network.onnx"
    export_onnx(source.network, source.images, path)
    images, runtime = source.images.numpy(), source.runtime
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[runtime.precision],
        "INFERENCE_NUM_THREADS": runtime.threads,
        "NUM_STREAMS": 1,
    }

    def opened() -> Session:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        computes = NAMES.get(hint, hint)
        if computes != runtime.precision:
            raise UnmeasuredError(f"openvino: {runtime.precision} was requested, it computes in {computes} here")
        request = compiled.create_infer_request()
        request.set_tensor(compiled.input(0), openvino.Tensor(images))
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

    return opened
