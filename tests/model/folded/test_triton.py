"""The Triton kernels: right by interpretation on a CPU, compiled for GPUs without one, and right on a GPU."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded.block import folded_sum
from mobileone_core.model.folded.convolution import FoldedConvolution
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu import dispatch
from mobileone_core.model.folded.gpu.dispatch import gpu_statistics
from mobileone_core.model.folded.gpu.layout import INTERPRETED
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import BlockSpec, ModelSpec

pytest.importorskip("triton")
CASES = Path(__file__).with_name("triton_cases.py")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SHARED_MEMORY = 99 * 1024  # bytes that a program may have on the smallest of these: 8.6
SPECS = {
    "stride 1": BlockSpec(128, 128, 3, 1, 128, 4, True, False),
    "stride 2": BlockSpec(128, 128, 3, 2, 128, 4, True, False),
    "pointwise": BlockSpec(128, 256, 1, 1, 1, 4, True, False),
}


def run_cases(**environment):
    """The cases in a process of their own, in which Triton is not imported yet."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    known = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=known | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout), done.stdout


@pytest.mark.slow
def test_cases_by_interpretation():
    run_cases(TRITON_INTERPRET="1")


@pytest.mark.gpu
@needs_gpu
def test_cases_on_a_gpu():
    run_cases()


def test_a_cpu_is_left_to_pytorch():
    assert not INTERPRETED
    assert gpu_statistics(Geometry.of(SPECS["stride 1"]), torch.ones(2, 128, 4, 4)) is None


class Launches(TorchDispatchMode):
    """Counts the operators that launch kernels on a GPU: all that are no views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.name()
        self.count += name.startswith("aten") and not function.is_view and "empty" not in name
        return function(*arguments, **(options or {}))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", SPECS)
def test_all_of_a_step_is_on_the_gpu_and_its_launches_do_not_grow_with_k(monkeypatch, kind, layout):
    """The step runs with tensors of a GPU that have no values: one on another device would be an error."""
    from mobileone_core.model.folded.gpu import depthwise, pointwise

    kernels, counts = [], {}
    monkeypatch.setattr(dispatch, "_capable", lambda _: True)
    for module in (depthwise, pointwise):
        monkeypatch.setattr(module, "launch", lambda kernel, *_, **__: kernels.append(kernel))
    monkeypatch.setattr(depthwise, "_pairs", depthwise._pairs.__wrapped__)  # a tensor, here without values
    for k in (1, 8):
        spec = replace(SPECS[kind], k=k)
        with FakeTensorMode(), torch.device("cuda"):
            block = MobileOneBlock(spec).train()
            x = torch.randn(4, 128, 28, 28, dtype=torch.bfloat16).contiguous(memory_format=layout)
            context = SimpleNamespace(needs_input_grad=[True], mark_non_differentiable=lambda *_: None)
            context.save_for_backward = lambda *saved, context=context: setattr(context, "saved_tensors", saved)
            monkeypatch.setattr(FoldedConvolution, "apply", lambda *a: FoldedConvolution.forward(context, *a))  # noqa: B023
            kernels.clear()
            with torch.no_grad(), Launches() as launches:
                output = folded_sum(block, x)
                gradients = FoldedConvolution.backward(context, torch.ones_like(output))
            assert {value.device.type for value in gradients if value is not None} == {"cuda"}
            assert gradients[0].is_contiguous(memory_format=layout)
        assert len(kernels) == 3
        counts[k] = launches.count
    assert counts[8] <= counts[1] + 1, counts


def compile_as_launched(architecture, compiled):
    """A stand-in for launch that compiles the kernel for these very arguments, as Triton would on such a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    def launch(kernel, grid, *arguments, num_warps, **constants):
        types, values, attributes = dict.fromkeys(constants, "constexpr"), dict(constants), {}

        def specialize(value, *path):
            """The type of an argument; what is constant or divisible by 16 goes to values and attributes."""
            if isinstance(value, tuple):
                return tuple(specialize(item, *path, index) for index, item in enumerate(value))
            if isinstance(value, torch.Tensor) or (value != 1 and value % 16 == 0):
                attributes[path] = [["tt.divisibility", 16]]
            if isinstance(value, torch.Tensor):
                return "*" + {torch.float32: "fp32", torch.bfloat16: "bf16"}[value.dtype]
            if value == 1:
                values[path] = 1
            return "constexpr" if value == 1 else "i32"

        for index, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
            types[name] = specialize(value, index)
        source = ASTSource(kernel, {name: types[name] for name in kernel.arg_names}, values, attributes)
        variant = kernel, constants.get("symmetric"), constants.get("pairs")
        compiled[variant] = compile(source, GPUTarget("cuda", architecture, 32), {"num_warps": num_warps})

    return launch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "dtype", "layout"),
    [
        (90, torch.bfloat16, torch.channels_last),
        (80, torch.float32, torch.contiguous_format),
        (86, torch.bfloat16, torch.contiguous_format),
        (86, torch.float32, torch.channels_last),
    ],
)
def test_the_kernels_compile_for_gpus(monkeypatch, tmp_path, architecture, dtype, layout):
    from mobileone_core.model.folded.gpu import depthwise, pointwise

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = {}
    for module in (depthwise, pointwise):
        monkeypatch.setattr(module, "launch", compile_as_launched(architecture, compiled))
    x = torch.ones(8, 128, 28, 28, dtype=dtype).contiguous(memory_format=layout)
    for stride in (1, 2):
        mean, covariance = depthwise.moments(x, stride)
        depthwise.parameter_gradients(x, mean, x[..., ::stride, ::stride], stride)
        depthwise.input_gradient(x, covariance, mean, x[..., ::stride, ::stride], mean.unsqueeze(1), stride)
    mean, covariance = pointwise.moments(x)
    pointwise.parameter_gradients(x, mean, x)
    pointwise.input_gradient(x, mean, covariance, mean, x)
    assert len(compiled) == 6
    assert all(kernel.metadata.shared <= SHARED_MEMORY for kernel in compiled.values())
    products = [text for kernel in compiled.values() if "mma" in (text := kernel.asm["ptx"])]
    assert len(products) == 3  # on tensor cores


def gradients(network, x, labels=None):
    """A step's output, and the gradients of all parameters in one vector."""
    network.zero_grad()
    output = network(x)
    loss = output.square().mean() if labels is None else F.cross_entropy(output, labels)
    loss.backward()
    return output.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", SPECS)
def test_a_large_block_is_as_exact_as_its_branches_on_a_gpu(kind, layout):
    """In float32 and bfloat16 against float64, twice the same numbers, and compiled."""
    torch.manual_seed(0)
    block = MobileOneBlock(SPECS[kind]).cuda().train()
    x = (torch.randn(32, 128, 28, 28, device="cuda") + 1).contiguous(memory_format=layout)
    truth = MobileOneBlock(SPECS[kind]).cuda().double().train()
    truth.load_state_dict(block.state_dict())
    for dtype in (torch.float32, torch.bfloat16):
        inputs = x.to(dtype)
        expected = gradients(truth, inputs.double())
        distances = {}
        for path in ("branches", "folded"):
            block.execution = path
            with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
                results = gradients(block, inputs)
                again = gradients(torch.compile(block, fullgraph=True), inputs) if path == "folded" else results
            distances[path] = [
                float((a.double() - b).norm() / b.norm()) for a, b in zip(results, expected, strict=True)
            ]
            compiled = [float((a.double() - b).norm() / b.norm()) for a, b in zip(again, expected, strict=True)]
        for folded, whole, branches in zip(distances["folded"], compiled, distances["branches"], strict=True):
            assert max(folded, whole) <= 3 * branches + 1e-6


@pytest.mark.gpu
@needs_gpu
def test_a_folded_network_gives_the_same_numbers_twice_on_a_gpu(monkeypatch):
    torch.manual_seed(0)
    network = build_model(ModelSpec.preset("s0"), 10, "folded").cuda().train()
    x = torch.randn(8, 3, 64, 64, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8, device="cuda")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with torch.autocast("cuda", torch.bfloat16):
        first, second = (gradients(network, x, labels) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
