"""The rule by which "auto" folds a block: by kind, branches, size, layout, dtype and device, never by values.

Measured on a Xeon with AVX-512, one thread, in float32: forward and backward of one block, time of the branches over
time of the folded path, so that above 1 folding is faster; by tests/benchmarks/bench_folded_blocks.py. Blocks of S0 at
batch 8 and 224 px / at batch 32 and 64 px / of tiny at batch 64 and 16 px:

    k = 1   dense 2.1 / 1.6 / 0.6; depthwise 0.7 to 2.2 / 0.8 to 1.3 / 0.9 to 1.5; pointwise 0.6 to 0.9
    k = 2   dense 1.9 / 1.3 / 0.5; depthwise 1.1 to 3.3 / 1.0 to 1.8 / 1.1 to 2.1; pointwise 0.8 to 1.6
    k = 4   dense 2.0 / 1.6 / 0.6; depthwise 1.5 to 4.9 / 1.5 to 4.4 / 1.5 to 3.2; pointwise 1.1 to 2.7

Depthwise blocks with k = 1 gain from 6272 positions on (1.1 to 2.2). On 4096 and fewer they reach 0.7 to 1.1, except
for S0's fourteen rows (1.6) and tiny's two (1.5).

A pointwise block of C input and O output channels on P positions saves k - 1 branches, 3 (k - 1) P C O multiply-adds,
and pays for the moments of its input, P C^2, and for k O quadratic forms, k O C^2. With a stride of 2, too, it gains
where 3 (k - 1) P O > 1.45 P C + 1.8 k O C:

    k = 2   O = C: below 0.5 to 1.1, above 1.0 to 2.1, tiny's narrow blocks on few positions 0.8 to 1.0
    k = 4   O = C: below 0.5 to 0.7, above 1.1 to 5.2; O = 6 C: above 1.4 to 5.8; O = C / 6: below 0.8, above 1.1
    k = 8   O = C: below 0.8, above 1.7 to 6.3

A dense block of larger kernels has T taps, C times the kernel's area, and pays P T^2 twice: what k and O bring in
return decides. 3x3, 5x5 and 7x7 blocks of up to 288 taps, from 16384 positions on:

    k O / T of 0.1 to 0.9    0.26 to 0.82
               0.9 to 1.2    0.7 to 1.8; blocks of an image of three channels gain, others lose
               1.5 to 17     1.3 to 4.1; 0.8 for 16 channels on 16384 positions with k = 1, 2.1 on 65536

Both on an EPYC (Zen 4), processor time, 2026-11, by tests/benchmarks/bench_expand.py --by-block.
With no more positions than channels the algebra is in float64: 256 channels on 128 positions reach 0.4 to 0.6, for any
k. A block of one branch has nothing to fold: with bench_training_step.py --no-reparam --k 1 (two threads) S0 took 1.5
times the time at 8 x 224 px, tiny 2.1 times at 64 x 32.
Without a compiler depthwise blocks gain from k = 4 on (1.1 to 1.5), pointwise ones where (k - 1) positions > k C.
On an EPYC (Zen 4) the same choices gain, except for some blocks with k = 2: depthwise ones on 2048 positions and fewer
reach 0.9 to 1.9, pointwise ones 0.7 to 1.9.
Depthwise blocks of dilation 2 and 4 at stride 1 follow the same rule; on an EPYC with the compiler: k = 1 0.8 to 1.4
on 2304 positions and fewer, 1.1 to 1.7 from 4096 on; k = 2 1.4 to 2.3; k = 4 2.3 to 4.7.
On GPUs the timings of the device's family decide (gpu_timings.py). A run of tests/benchmarks/gpu.py gives
them to this command:

    python -m mobileone_core.model.folded.rule --from gpu.json

Whatever was not measured runs by its branches.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileone_core.errors import InputError
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.dispatch import INSTALLED
from mobileone_core.model.folded.gpu_timings import Condition, least_positions, write_timings
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.spec import BlockSpec

LEAST_K = 4  # from which depthwise blocks gain without a compiler
LEAST_POSITIONS = 2**14  # from which a dense block with larger kernels gains, and
LEAST_OUTPUTS = 2**19  # of all branches and positions, from which it gains, and
MOST_TAPS = 288  # up to which it was measured
LEAST_POSITIONS_OF_ONE = 6000  # from which a depthwise block with k = 1 gains


def folding_is_faster(spec: BlockSpec, x: Tensor) -> bool:
    """Whether a block with input x (N, C, H, W) is of a kind and size whose folded path was measured to be faster."""
    rule = {"cpu": _is_faster_on_cpu, "cuda": _is_faster_on_gpu}.get(x.device.type)
    k = _parallel(spec)
    return k > 0 and rule is not None and rule(Geometry.of(spec), k, x)


def _parallel(spec: BlockSpec) -> int:
    """Branches of full kernels to fold: k, or for a row and a column one more; 0 where there is but one branch."""
    if spec.method in ("mobileone", "repvgg"):
        return spec.k if spec.reparam else 0
    return 2 if spec.method == "acnet" and spec.kernel_size > 1 else 0


def _is_faster_on_cpu(geometry: Geometry, k: int, x: Tensor) -> bool:
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not x.is_contiguous():
        return False
    if geometry.phases_of(x.shape) > 1 and available():
        geometry = replace(geometry, dilation=1)
        measured = geometry.depthwise
    else:
        measured = geometry.dilation == 1
    if not measured:
        return False
    positions, taps, outputs = geometry.positions(x.shape), geometry.taps, geometry.outputs
    if geometry.depthwise:
        return k >= LEAST_K or (available() and (k > 1 or positions >= LEAST_POSITIONS_OF_ONE))
    if geometry.groups > 1 or geometry.stride > 2:
        return False
    if geometry.kernel > 1:
        many = positions >= LEAST_POSITIONS and k * outputs * positions >= LEAST_OUTPUTS
        return many and 2 * k * outputs >= 3 * taps and taps <= MOST_TAPS
    gains = 3 * (k - 1) * positions * outputs > 1.45 * positions * taps + 1.8 * k * outputs * taps
    gains = gains and (available() or (k - 1) * positions > k * taps)
    return gains and geometry.can_have_full_rank(x.shape)  # else the algebra is in float64


def _is_faster_on_gpu(geometry: Geometry, k: int, x: Tensor) -> bool:
    casts = torch.is_autocast_enabled("cuda") and x.is_floating_point() and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype("cuda") if casts else x.dtype
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    setting = (str(dtype).removeprefix("torch."), channels_last, torch.compiler.is_compiling())
    least = _least_positions(x.device, geometry.kind, *setting, k, geometry.in_channels)
    return INSTALLED and least is not None and geometry.positions(x.shape) >= least


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _least_positions(device: torch.device, *block: Any) -> int | None:
    return least_positions(torch.cuda.get_device_name(device), Condition(*block[:4]), *block[4:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the timings of a family of GPUs, by which auto folds blocks.")
    parser.add_argument("--from", required=True, type=Path, dest="measurement", metavar="gpu.json")
    try:
        print(f"wrote {write_timings(parser.parse_args().measurement)}")
    except InputError as error:
        parser.exit(2, f"{error}\n")
