"""Parts of gpu.py: the tests marked gpu, kernels against float64, steps, latency, throughput.

A part is a sequence of items: names and functions that return results. An item may fail alone.
"""

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gpu_limits import DTYPES, LAYOUTS, Item, Result, Settings, Skipped, block_shapes
from torch import Tensor

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.dispatch import gpu_statistics
from mobileone_core.model.folded.patches import Patches
from mobileone_core.model.spec import BlockSpec, ModelSpec

ROOT = Path(__file__).parents[2]
EXACT = {"float32": 2e-5, "bfloat16": 2**-7, "float16": 2**-9}  # of the norm of a kernel's result in that dtype
WORSE, ROUNDING = 3, {"float32": 1e-6, "bfloat16": 1e-4, "float16": 1e-4}  # than the branches' error, and above it


def test_items(settings: Settings) -> Iterator[Item]:
    """Every file with tests marked gpu."""
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text())
    for path in [path for path in files if path.name == "test_triton.py"] if settings.tiny else files:
        yield str(path.relative_to(ROOT)), partial(_run_tests, path, settings)


def _run_tests(path: Path, settings: Settings) -> list[Result]:
    inner = ROOT / "tests" / "model"  # its tests need no more than torch and pytest: no plug-ins, no other helpers
    options = ["--confcutdir", str(inner)] if inner in path.parents else []
    with TemporaryDirectory() as folder:
        xml = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-W", "default"]
        command += ["-o", "addopts=--import-mode=importlib", f"--junitxml={xml}", *options, str(path)]
        limit = max(1, settings.deadline - time.time())
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=limit)
        missing = re.search(r"No module named '?([\w.]+)", done.stdout + done.stderr)
        if missing and (done.returncode != 1 or not xml.exists()):  # 1 without results: there is no pytest
            raise Skipped(f"{missing[1]} is not installed")
        cases = list(ET.parse(xml).iter("testcase")) if xml.exists() else []
    results = [_case_result(case) for case in cases]
    return results or [{"name": "pytest", "status": "failed", "note": (done.stdout + done.stderr)[-300:]}]


def _case_result(case: ET.Element) -> Result:
    for status, tag in (("failed", "failure"), ("failed", "error"), ("skipped", "skipped")):
        if (reason := case.find(tag)) is not None:
            message = reason.get("message", "")
            status = "skipped" if "No module named" in message else status  # noqa: PLW2901
            return {"name": case.get("name"), "status": status, "note": message[-200:]}
    return {"name": case.get("name"), "status": "passed", "seconds": float(case.get("time", 0))}


def kernel_items(settings: Settings) -> Iterator[Item]:
    """All blocks of a variant by dtype and layout; k runs from 1 to 8, one after another. Float32 is no TF32."""
    torch.backends.cudnn.allow_tf32 = False
    for variant in settings.variants("s0", "s4", "s1", "s2", "s3"):
        for dtype in list(DTYPES)[: 2 if settings.tiny else 3]:
            for layout in settings.layouts():
                yield f"{variant} {dtype} {layout}", partial(_check_blocks, settings, variant, dtype, layout)


def _check_blocks(settings: Settings, variant: str, dtype: str, layout: str) -> list[Result]:
    results = []
    seen = dict.fromkeys(block_shapes(variant, 1, 2 if settings.tiny else 8, settings.size))
    chosen = list(seen)[:4] if settings.tiny else list(seen)
    for index, (spec, shape) in enumerate(chosen):
        spec = BlockSpec(**{**vars(spec), "k": index % 8 + 1})  # noqa: PLW2901
        torch.manual_seed(index)
        x = (torch.randn(shape, device=settings.device) + 1).to(DTYPES[dtype], memory_format=LAYOUTS[layout])
        errors = _kernel_errors(Geometry.of(spec), x, EXACT[dtype]) | _path_errors(spec, x, dtype)
        bad = {name: f"{value:.1e}" for name, value in errors.items() if not value <= 1}
        status = {"status": "failed", "note": str(bad)} if bad else {"status": "passed"}
        name = f"{Geometry.of(spec).kind} {spec.in_channels} > {spec.out_channels} at {shape[-1]} px, k={spec.k}"
        results.append({"name": name, **status, "worst": max(errors.values())})
    return results


def _kernel_errors(geometry: Geometry, x: Tensor, rounded: float) -> dict[str, float]:
    """Relative errors of the Triton kernels against patches in float64, in units of what rounding allows."""
    fused, plain, whole = gpu_statistics(geometry, x), Patches(geometry), x.double()
    if fused is None:
        return {}
    truth = plain.moments(whole)
    mean, kernel = truth.mean.float(), torch.randn_like(truth.covariance[:, :1]).expand(-1, geometry.outputs, -1)
    grad_output = torch.randn(len(x), geometry.out_channels, *geometry.sizes(x.shape), device=x.device).to(x.dtype)
    weights, mean_grad = truth.covariance.float(), truth.mean.new_ones(geometry.groups, geometry.outputs).float()
    kernel = kernel.to(x.dtype).float()
    given = (mean, grad_output, mean_grad, kernel, weights)
    pairs = {
        "moments": zip(fused.moments(x), truth, strict=True),
        "parameters": zip(
            fused.parameter_gradients(x, mean, grad_output),
            plain.parameter_gradients(whole, truth.mean, grad_output.double()),
            strict=True,
        ),
        "input": [(fused.input_gradient(x, *given), plain.input_gradient(whole, *(v.double() for v in given)))],
    }
    bounds = {"moments": 2e-5, "parameters": 2e-5, "input": rounded}
    return {name: max(_distance(*pair) for pair in values) / bounds[name] for name, values in pairs.items()}


def _path_errors(spec: BlockSpec, x: Tensor, dtype: str) -> dict[str, float]:
    """Errors of output and gradients against float64 branches, in units of what the branches' own errors allow."""
    block, results = MobileOneBlock(spec).to(x.device).train(), {}
    precise = MobileOneBlock(spec).to(x.device).double().train()
    precise.load_state_dict(block.state_dict())
    if x.is_cuda:
        block.to(memory_format=torch.channels_last if x.stride(1) == 1 else torch.contiguous_format)
    grad_output = torch.randn_like(precise(x.double()))
    for name, network, leaf in (("truth", precise, x.double()), ("branches", block, x), ("folded", block, x)):
        network.execution = "folded" if name == "folded" else "branches"
        network.zero_grad()
        leaf = leaf.detach().clone().requires_grad_()  # noqa: PLW2901
        with torch.autocast(x.device.type, x.dtype, enabled=network is block and dtype != "float32"):
            output = network(leaf)
        output.backward(grad_output.to(output.dtype))
        gradients = torch.cat([p.grad.flatten().double() for p in network.parameters()])
        results[name] = (output, leaf.grad, gradients)
    errors = {
        path: [_distance(*pair) for pair in zip(results[path], results["truth"], strict=True)]
        for path in ("branches", "folded")
    }
    pairs = zip(("output", "dx", "dw"), errors["folded"], errors["branches"], strict=True)
    return {name: folded / (WORSE * branches + ROUNDING[dtype]) for name, folded, branches in pairs}


def _distance(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).norm() / expected.norm().clamp(min=1e-30)).detach())


def step_items(settings: Settings) -> Iterator[Item]:
    """Training steps of S0 and S1: branches, folded and timm, eager and compiled, k = 4 first."""
    for variant in settings.variants("s0", "s1"):
        for compiled in (False,) if settings.tiny else (False, True):
            yield f"{variant} {'compiled' if compiled else 'eager'}", partial(_time_steps, settings, variant, compiled)


def _time_steps(settings: Settings, variant: str, compiled: bool) -> list[Result]:
    from mobileone_core.benchmark.calls import peak_bytes, saved_bytes, synchronized
    from mobileone_core.benchmark.interleave import TimedCall, interleave
    from mobileone_core.benchmark.protocol import Protocol
    from mobileone_core.benchmark.subjects.step import build_step

    calls, results, entries, device = {}, [], {}, torch.device(settings.device)
    timm = ModelSpec.preset(variant).k, "timm"
    order = [(4, "branches"), (4, "folded"), timm, (8, "folded"), (1, "folded"), (8, "branches"), (1, "branches")]
    for k, path in [*order[: 3 if settings.tiny else None], (4, "again")]:
        name, cell = f"{path} k={k}", step_cell(settings, variant, k, "branches" if path == "again" else path, compiled)
        try:
            if time.time() > settings.deadline:
                raise TimeoutError  # noqa: TRY301 - as an error of the step
            step = build_step(cell)
            step()
            saved = 0 if compiled else saved_bytes(step.logits, step.network.parameters())
            entries[name] = {"saved GB": saved / 1e9, "peak GB": peak_bytes(step, device) / 1e9}
            calls[name] = TimedCall(synchronized(step, device))
        except TimeoutError:
            results.append({"name": name, "status": "no time"})
        except InputError as error:
            results.append({"name": name, "status": "skipped", "note": str(error)})
        except Exception as error:
            results.append({"name": name, "status": "failed", "note": f"{type(error).__name__}: {error}"[:300]})
    samples = interleave(calls, Protocol(rounds=6 if settings.tiny else 12, burst=1), lambda _: None) if calls else None
    for name, memory in entries.items():
        median, k = samples.median(name), name.partition("k=")[2]
        result = {"name": name, "status": "measured", "ms": median.value, "low": median.low, "high": median.high}
        for head, other in ((f"/ {path}", f"{path} k={k}") for path in ("branches", "timm")):
            result |= {head: samples.ratio(name, other).value} if other in entries else {}
        first = name.replace(f"k={k}", "k=1")
        result |= {"/ k=1": samples.ratio(name, first).value} if first in entries else {}
        results.append({**result, **memory, "images/s": 1000 * settings.batch / median.value})
    return results


def step_cell(settings: Settings, variant: str, k: int, path: str, compiled: bool) -> Any:
    """A step in bfloat16 and channels-last on a GPU, in float32 on a CPU."""
    from mobileone_core.benchmark.spec import StepCell

    sizes = {"batch_size": settings.batch, "image_size": settings.size, "device": settings.device, "compile": compiled}
    on_gpu = {"precision": "bf16-mixed", "channels_last": True} if settings.device == "cuda" else {}
    return StepCell(variant, k, path, **sizes, **on_gpu)


def latency_items(settings: Settings) -> Iterator[Item]:
    for runtime in ("cuda_graph", "cuda") if settings.device == "cuda" else ("torch",):
        for precision in ("float32", "float16")[: 1 if settings.tiny else 2]:
            yield f"{runtime} {precision}", partial(_time_latencies, settings, runtime, precision)


def _time_latencies(settings: Settings, runtime: str, precision: str) -> list[Result]:
    from mobileone_core.benchmark.measure import measure
    from mobileone_core.benchmark.protocol import Protocol
    from mobileone_core.benchmark.spec import Entry, LatencySpec
    from mobileone_core.latency.cell import LatencyCell, NamedNetwork, Runtime
    from mobileone_core.training.execution import Execution

    layout = "channels_last" if precision == "float16" else "contiguous"
    names = [f"mobileone_{variant}" for variant in settings.variants("s0", "s1", "s2", "s3", "s4")]
    how = Runtime(runtime, 1, precision, layout), 32 if settings.tiny else 224
    entries = tuple(Entry(name, {}, LatencyCell(NamedNetwork(name), *how), names[0]) for name in names)
    protocol = Protocol(rounds=6) if settings.tiny else Protocol()
    measured = measure(LatencySpec(entries, protocol), execution=Execution(settings.device), progress=lambda _: None)
    results = []
    for item in measured:
        status = {"status": "failed", "note": item.unmeasured} if item.unmeasured else {"status": "measured"}
        times = {name.removeprefix("latency/"): value for name, value in item.metrics.items() if "/" in name}
        results.append({"name": item.label, **status, **{name: times[name] for name in LATENCIES if name in times}})
    return results


LATENCIES = ("median_ms", "low_ms", "high_ms", "min_ms", "p90_ms", "ratio", "control/latency_ratio")


def throughput_items(settings: Settings) -> Iterator[Item]:
    for variant in settings.variants("s0", "s1", "s4"):
        for path in ("folded", "branches"):
            yield f"{variant} {path}", partial(_train, settings, variant, path)


def _train(settings: Settings, variant: str, path: str) -> list[Result]:
    """Steps one after another on bytes that come from the host's pinned memory, as a loader would hand them on."""
    from mobileone_core.benchmark.subjects.step import build_step

    step = build_step(step_cell(settings, variant, ModelSpec.preset(variant).k, path, False))
    bytes_ = torch.randint(256, step.images.shape, dtype=torch.uint8)
    bytes_ = bytes_.contiguous(memory_format=torch.channels_last) if step.images.is_cuda else bytes_
    bytes_, count = bytes_.pin_memory() if step.images.is_cuda else bytes_, 2 if settings.tiny else 30
    for index in range(count + 3):
        if index == 3:
            settings.wait()
            start = time.perf_counter()
        step.images = bytes_.to(step.images.device, non_blocking=True).to(torch.float32).div_(255)
        step()
    settings.wait()
    return [{"name": path, "status": "measured", "images/s": count * settings.batch / (time.perf_counter() - start)}]
