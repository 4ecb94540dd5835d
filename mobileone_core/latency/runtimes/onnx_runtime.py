"""ONNX Runtime on the CPU, the default runtime. It folds batch normalization itself."""

from mobileone_core.latency.onnx import export_onnx
from mobileone_core.latency.runtimes import Opener, Session, SessionSource

PROVIDER = "CPUExecutionProvider"


def prepare(source: SessionSource) -> Opener:
    """Export the network once; every session reads and optimizes the file anew."""
    import onnxruntime
    import torch

    path = source.folder / "network.onnx"
    export_onnx(source.network, source.images, path)
    images = source.images.numpy()

    def opened() -> Session:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = source.runtime.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # idle threads that keep spinning would slow down the next entry
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
        feed = {session.get_inputs()[0].name: images}
        tags = {
            "runtime_version": f"onnxruntime {onnxruntime.__version__}",
            "provider": ", ".join(session.get_providers()),
            "threads": str(session.get_session_options().intra_op_num_threads),
        }
        return Session(
            lambda: session.run(None, feed), lambda: torch.from_numpy(session.run(None, feed)[0]).float(), tags
        )

    return opened
