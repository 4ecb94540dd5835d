"""Least times of blocks at a device's rates, by bytes and operations of any exact method; and the times they take.

Bytes are those of activations that come from memory and go there, each pass over one counted once, as if no pass were
fused with another and no cache held an activation. Weights count three times: read twice, their gradients written.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.spec import BlockSpec, ModelSpec

Shape = tuple[int, int, int, int]
LAGS = {1: 13, 2: 45}  # products a depthwise output position needs for its moments, by stride
SPREAD = {1: 25, 2: 81}  # and for their gradient
RELU = 5  # passes over a block's output: two forward, three backward
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Skipped(Exception):  # noqa: N818 - no error
    """An item that cannot run here, and why."""


class Settings(NamedTuple):
    """Where it runs: cuda, or cpu with Triton's interpreter; sizes; the time at which no further item begins."""

    device: str
    tiny: bool
    deadline: float

    @property
    def batch(self) -> int:
        return 2 if self.tiny else 256

    @property
    def size(self) -> int:
        return 16 if self.tiny else 224

    def variants(self, *names: str) -> tuple[str, ...]:
        return ("tiny",) if self.tiny else names

    def layouts(self) -> list[str]:
        """A CPU's channels-last convolutions write out of bounds in torch 2.14."""
        return ["channels-last", "contiguous"] if self.device == "cuda" else ["contiguous"]

    def ks(self, *ks: int) -> tuple[int, ...]:
        return ks[:2] if self.tiny else ks

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


Result = dict[str, Any]
Item = tuple[str, Callable[[], list[Result]]]


class Rates(NamedTuple):
    """Bytes per second of memory; multiply-adds per second of matrix products in half precision, and of float32."""

    bandwidth: float
    matrix: float
    vector: float


# NVIDIA's data sheets of the SXM modules: bytes, dense bfloat16 and float32 operations, two per multiply-add
SPECIFIED = {"H100": Rates(3.35e12, 989e12 / 2, 67e12 / 2), "H200": Rates(4.8e12, 989e12 / 2, 67e12 / 2)}


class Work(NamedTuple):
    """Bytes moved, and multiply-adds of matrix products and of single values."""

    moved: float
    matrix: float = 0
    vector: float = 0

    def seconds(self, rates: Rates) -> float:
        """The longest of the three at these rates: they overlap."""
        return max(self.moved / rates.bandwidth, self.matrix / rates.matrix, self.vector / rates.vector)


def block_shapes(variant: str, k: int, batch: int, size: int) -> Iterator[tuple[BlockSpec, Shape]]:
    """Every block of a network in its order, and the shape of its input."""
    model = ModelSpec.preset(variant, k=k)
    for spec in (model.stem(), *(block for stage in model.stages() for block in stage)):
        yield spec, (batch, spec.in_channels, size, size)
        size = math.ceil(size / spec.stride)


def sizes(spec: BlockSpec, shape: Shape) -> tuple[int, int, int]:
    """Values of a block's input, of its output, and of its parameters."""
    side = math.ceil(shape[2] / spec.stride)
    x, y = math.prod(shape), shape[0] * spec.out_channels * side * side
    taps = spec.in_channels // spec.groups * spec.kernel_size**2
    return x, y, spec.k * spec.out_channels * taps


def least_work(spec: BlockSpec, shape: Shape, itemsize: int) -> Work:
    """Least work of any exact method, forward and backward: x read, y written; x and dy read, dx written.

    Operations are three convolutions, the moments of the patches and their gradient, and on parameters w S w by half of
    S, the gradients of w by all of it and half of that of S. A network's first block computes no gradient of its input.
    """
    geometry, (x, y, weights) = Geometry.of(spec), sizes(spec, shape)
    wants_input, taps = spec.in_channels > 3, geometry.taps
    moved = itemsize * (2 * x + 2 * y + x * wants_input) + 12 * weights
    products = (2 + wants_input) * y * taps
    if geometry.depthwise:
        return Work(moved, 0, products + y * (LAGS[geometry.stride] + SPREAD[geometry.stride]))
    positions = y // spec.out_channels
    products += positions * taps * (taps + 1) // 2 + positions * taps * taps * wants_input
    return Work(moved, products + (3 + wants_input) * weights * taps // 2)


def folded_work(spec: BlockSpec, shape: Shape, itemsize: int) -> Work:
    """Work of the folded path by kernel: moments; convolution, bias; both gradients, the input's in two if 1x1."""
    (x, y, weights), least = sizes(spec, shape), least_work(spec, shape, itemsize)
    taps = spec.kernel_size**2 if spec.groups == 1 else 1  # dense 3x3: patches in float32 are made for each sum
    patches = 4 * 6 * taps * x // spec.stride**2 if taps > 1 else 0
    passes = (x) + (x + 3 * y) + (x + y) + (2 * x + y if spec.groups > 1 else 4 * x + y) * (spec.in_channels > 3)
    vector = least.vector + (LAGS[2] - LAGS[spec.stride]) * y * (spec.groups > 1)  # all pairs of taps at any stride
    return Work(itemsize * passes + patches + 12 * weights, 3 * least.matrix, vector)  # three products of halves


def branches_work(spec: BlockSpec, shape: Shape, itemsize: int) -> Work:
    """Work of the branches as PyTorch runs them one by one: convolution, BN in two passes, sum; and back."""
    x, y, weights = sizes(spec, shape)
    convolutions, skip, wants_input = spec.k + spec.scale, spec.skip, spec.in_channels > 3
    forward = convolutions * (x + y) + (convolutions + skip) * 6 * y - 3 * y
    backward = (convolutions + skip) * 5 * y + convolutions * (x + y)
    backward += wants_input * (convolutions * (x + y) + (convolutions + skip - 1) * 3 * x)
    return Work(itemsize * (forward + backward) + 12 * weights, _convolved(spec, y))


def compiled_work(spec: BlockSpec, shape: Shape, itemsize: int) -> Work:
    """Work of the branches with all passes between convolutions fused, ReLU too: the best that torch.compile may do."""
    x, y, weights = sizes(spec, shape)
    convolutions, summed, wants_input = spec.k + spec.scale, spec.k + spec.scale + spec.skip, spec.in_channels > 3
    forward = convolutions * (x + y) + 2 * summed * y + y
    backward = 3 * summed * y + 3 * y + convolutions * (x + y)
    backward += wants_input * (convolutions * (x + y) + (summed + 1) * x)
    return Work(itemsize * (forward + backward) + 12 * weights, _convolved(spec, y))


def _convolved(spec: BlockSpec, y: int) -> int:
    return 0 if spec.groups > 1 else 3 * spec.k * y * spec.in_channels


def rates_items(settings: Settings) -> Iterator[Item]:
    yield "rates", lambda: [{"name": "measured", "status": "measured", **measured_rates(settings)._asdict()}]


def measured_rates(settings: Settings) -> Rates:
    """Bytes per second of a copy, multiply-adds per second of products in bfloat16 and in float32 without TF32."""
    side, values = (256, 2**20) if settings.tiny else (8192, 2**29)
    source, target = (torch.ones(values, dtype=torch.bfloat16, device=settings.device) for _ in range(2))
    half, single = (
        torch.randn(side, side, device=settings.device).to(dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    bandwidth = 4 * values / _fastest(settings, lambda: target.copy_(source))
    return Rates(bandwidth, *(side**3 / _fastest(settings, lambda m=m: m @ m) for m in (half, single)))


def _fastest(settings: Settings, call: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        settings.wait()
        times.append(time.perf_counter() - start)
    return min(times)


def block_items(settings: Settings) -> Iterator[Item]:
    """Blocks of S0 at two sizes of a batch: eager in every dtype and layout, then compiled."""
    for compiled, dtypes in ((False, list(DTYPES)), (True, ["bfloat16"]))[: 1 if settings.tiny else 2]:
        for layout in settings.layouts()[: 1 if compiled else 2]:
            for dtype in sorted(dtypes[: 1 if settings.tiny else 3], key=lambda name: name != "bfloat16"):
                for batch in (settings.batch, settings.batch // 8)[: 1 if settings.tiny or compiled else 2]:
                    for k in settings.ks(4, 1, 8, 2):
                        name = f"{'compiled' if compiled else 'eager'} {dtype} {layout}, batch {batch}, k={k}"
                        yield name, partial(_time_blocks, settings, compiled, dtype, layout, batch, k)


def _time_blocks(  # noqa: PLR0917
    settings: Settings, compiled: bool, dtype: str, layout: str, batch: int, k: int
) -> list[Result]:
    from mobileone_core.benchmark.interleave import TimedCall, interleave
    from mobileone_core.benchmark.protocol import Protocol

    rates, results = measured_rates(settings), []
    cases = list(dict.fromkeys(block_shapes(settings.variants("s0")[0], k, batch, settings.size)))
    for spec, shape in cases[: 3 if settings.tiny else None]:
        x = torch.randn(shape, device=settings.device).to(DTYPES[dtype], memory_format=LAYOUTS[layout])
        paths = ("branches", "folded")
        calls = {path: TimedCall(_block_step(settings, spec, x, path, compiled)) for path in paths}
        samples = interleave(calls, Protocol(rounds=6, burst=2, warmup=1), lambda _: None)
        limit = 1000 * least_work(spec, shape, x.element_size()).seconds(rates)
        geometry, ratio = Geometry.of(spec), samples.ratio("branches", "folded").value
        condition = {
            "kind": geometry.kind,
            "dtype": dtype,
            "channels_last": layout != "contiguous",
            "compiled": compiled,
        }
        timing = {"k": spec.k, "channels": spec.in_channels, "positions": geometry.positions(x.shape), "ratio": ratio}
        times = {f"{path} ms": samples.median(path).value / REPEATS for path in calls}
        name = f"{geometry.kind} {spec.in_channels} > {spec.out_channels} at {shape[-1]} px"
        result = {"name": name, "status": "measured", **times, "limit ms": limit, "branches / folded": ratio}
        results.append({**result, "timing": condition | timing})
    return results


REPEATS = 3  # of a block's step before the device is waited for, so that launches overlap as in a network


def _block_step(settings: Settings, spec: BlockSpec, x: Tensor, path: str, compiled: bool) -> Callable[[], None]:
    block: nn.Module = MobileOneBlock(spec).to(settings.device).train()
    block.execution = path
    if settings.device == "cuda":
        block.to(memory_format=torch.channels_last if x.stride(1) == 1 else torch.contiguous_format)
    if compiled:
        block.compile(dynamic=False)
    leaf, half = x.clone().requires_grad_(spec.in_channels > 3), x.dtype != torch.float32
    geometry = Geometry.of(spec)
    grad = torch.randn_like(x[:, :1, :: geometry.stride, :: geometry.stride].expand(-1, spec.out_channels, -1, -1))

    def step() -> None:
        for _ in range(REPEATS):
            leaf.grad = None
            block.zero_grad()
            with torch.autocast(x.device.type, x.dtype, enabled=half):
                output = block(leaf)
            output.backward(grad.to(output.dtype))
        settings.wait()

    return step


WORKS = {"least": least_work, "folded": folded_work, "branches": branches_work, "compiled": compiled_work}


def predicted_steps(batch: int = 256, size: int = 224, itemsize: int = 2) -> list[dict[str, object]]:
    """Milliseconds of all blocks of a step in half precision by bytes and operations alone, for specified devices.

    Launches, the head and the optimizer are left out.
    """
    rows: list[dict[str, object]] = []
    for device, rates in SPECIFIED.items():
        for variant in ("s0", "s1"):
            for k in (1, 4, 8):
                total = dict.fromkeys(WORKS, 0.0)
                for spec, shape in block_shapes(variant, k, batch, size):
                    relu = RELU * itemsize * sizes(spec, shape)[1] / rates.bandwidth
                    for path, work in WORKS.items():
                        seconds = work(spec, shape, itemsize).seconds(rates) + relu * (work is not compiled_work)
                        total[path] += 1000 * seconds
                ratios = {f"{path} / folded": total[path] / total["folded"] for path in ("branches", "compiled")}
                times = {f"{path} ms": value for path, value in total.items()}
                rows.append({"device": device, "network": f"{variant} k={k}", **times, **ratios})
    return rows


def predicted_kinds(variant: str = "s0", k: int = 4, batch: int = 256, size: int = 224) -> list[dict[str, object]]:
    """The same of the blocks of one network, summed by kind, on an H100."""
    rates, rows = SPECIFIED["H100"], {}
    for spec, shape in block_shapes(variant, k, batch, size):
        row = rows.setdefault(Geometry.of(spec).kind, dict.fromkeys(("blocks", "GB", "G multiply-adds"), 0.0))
        least = least_work(spec, shape, 2)
        row["blocks"] += 1
        row["GB"] += least.moved / 1e9
        row["G multiply-adds"] += (least.matrix + least.vector) / 1e9
        for path, work in WORKS.items():
            row[f"{path} ms"] = row.get(f"{path} ms", 0.0) + 1000 * work(spec, shape, 2).seconds(rates)
    return [{"kind": kind, **row} for kind, row in rows.items()]
