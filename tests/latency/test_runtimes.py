"""Every runtime gives the network's numbers, or says in one line why not."""

import importlib

import pytest
import torch

from mobileone_core.errors import InputError
from mobileone_core.latency import runtimes
from mobileone_core.latency.cell import LatencyCell, NamedNetwork, Runtime
from mobileone_core.latency.networks import build_forms, build_images
from mobileone_core.latency.runtimes import SessionSource, UnmeasuredError

pytestmark = pytest.mark.usefixtures("onnx_registry")
CELL = LatencyCell(NamedNetwork("mobileone_tiny"), image_size=32, num_classes=10)


def opened(runtime, folder, cell=CELL):
    network, images = build_forms(cell)[1], build_images(cell)
    with torch.inference_mode():
        expected = network(images)
    runtimes.require_runtime(runtime)
    session = runtimes.prepare(SessionSource(network, images, runtime, folder))()
    session.call()
    return session, float((session.output() - expected).norm() / expected.norm())


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("runtime", "tolerance"),
    [
        (Runtime("onnxruntime"), 1e-5),
        (Runtime("onnxruntime", threads=2), 1e-5),
        (Runtime("torch"), 0),
        (Runtime("torch", threads=2, layout="channels_last"), 1e-5),
        (Runtime("torch", precision="bfloat16"), 0.1),
        (Runtime("torch", precision="float16"), 0.02),
        (Runtime("openvino"), 1e-4),
        pytest.param(Runtime("torch_compile"), 1e-5, marks=pytest.mark.slow),
        pytest.param(Runtime("cuda"), 1e-3, marks=pytest.mark.gpu),
        pytest.param(Runtime("cuda", precision="float16", layout="channels_last"), 0.02, marks=pytest.mark.gpu),
        pytest.param(Runtime("cuda_graph"), 1e-3, marks=pytest.mark.gpu),
    ],
    ids=str,
)
def test_output_and_tags(runtime, tolerance, tmp_path):
    if runtime.name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    session, distance = opened(runtime, tmp_path)
    assert distance <= tolerance
    assert session.tags.get("threads", str(runtime.threads)) == str(runtime.threads)
    assert session.tags.get("precision", runtime.precision) == runtime.precision
    if session.timer is not None:
        assert session.timer() > 0
    else:
        assert not runtime.name.startswith("cuda")


def test_threads_are_set_by_the_call(tmp_path):
    two, _ = opened(Runtime("torch", threads=2), tmp_path)
    one, _ = opened(Runtime("torch"), tmp_path)
    for session, threads in ((two, 2), (one, 1), (two, 2)):
        session.call()
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (Runtime("onnxruntime", precision="float16"), "precision: 'float16' is not allowed; float32"),
        (Runtime("onnxruntime", layout="channels_last"), "layout: 'channels_last' is not allowed; contiguous"),
        (Runtime("openvino", layout="channels_last"), "layout: 'channels_last' is not allowed; contiguous"),
    ],
)
def test_what_a_runtime_does_not_do_is_refused(runtime, message):
    with pytest.raises(InputError, match=message):
        runtimes.require_runtime(runtime)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_missing_runtime_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda package: None if package == name else object())
    with pytest.raises(InputError, match=f"runtime: {name} needs {name}, not installed here; pip install"):
        runtimes.require_runtime(Runtime(name))


@pytest.mark.parametrize("name", ["cuda", "cuda_graph"])
def test_cuda_needs_a_device(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"runtime: {name} needs a CUDA device"):
        runtimes.require_runtime(Runtime(name))


def test_a_precision_the_processor_lacks_is_said(tmp_path, monkeypatch):
    home = importlib.import_module("mobileone_core.latency.runtimes.onnx_file")
    monkeypatch.setitem(home.HINTS, "bfloat16", "f32")  # what such a processor makes of it
    with pytest.raises(UnmeasuredError, match="openvino: bfloat16 was requested, it computes in"):
        opened(Runtime("openvino", precision="bfloat16"), tmp_path)


def test_without_a_compiler_torch_compile_says_so(tmp_path, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def fails():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", fails)
    with pytest.raises(UnmeasuredError, match=r"no C\+\+ compiler here; install"):
        opened(Runtime("torch_compile"), tmp_path)
