"""The rule by which "auto" folds a block: by kind, branches, size, layout, dtype and device, never by values.

README.md has the measurements by which it was chosen, section "Where auto folds". On GPUs the timings of the device's
family decide (gpu_timings.py). A run of tests/benchmarks/gpu.py gives them to this command:

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
    is_cut = geometry.phases_of(x.shape) > 1 and available()
    geometry = replace(geometry, dilation=1) if is_cut else geometry
    if geometry.dilation > 1 or (is_cut and not geometry.depthwise):
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
