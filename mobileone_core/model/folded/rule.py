"""Where the folded path is taken unasked: by kind, branches, size, layout, dtype and device, never by values.

Measured forward and backward of one block in float32 on a Xeon with AVX-512, processor time of one thread, branches
over folded (above 1 the folded path is faster), by tests/benchmarks/bench_folded_blocks.py; the blocks of S0 at batch 8
and 224 px / at batch 32 and 64 px / of tiny at batch 64 and 16 px:

    k = 1   dense 2.6 / 2.0 / 0.8; depthwise 0.9 to 2.5 / 1.0 to 1.4 / 0.9 to 1.7; pointwise 0.5 to 1.1, most below 1
    k = 2   dense 2.5 / 2.2 / 0.7; depthwise 1.1 to 3.4 / 1.3 to 1.9 / 1.3 to 2.3; pointwise 0.8 to 1.9
    k = 4   dense 2.6 / 2.2 / 0.9; depthwise 1.8 to 5.1 / 1.8 to 2.8 / 1.5 to 3.1; pointwise 1.0 to 3.4

A pointwise block saves k - 1 branches at every position and pays for k quadratic forms in C channels: of those above
1.0 none is left out by (k - 1) positions > k C but some between 1.0 and 1.1, and all below 1.0 are. Without depthwise.c
depthwise blocks paid from k = 4 on (1.1 to 1.5). What is not measured stays with the branches.
"""

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.native import available

LEAST_K = 4  # the fewest branches that pay for the moments of a depthwise block without a compiler
LEAST_POSITIONS = 2**14  # that pay for those of a dense block


def pays(geometry: Geometry, k: int, x: Tensor) -> bool:
    """Whether a block with k branches and an input x (N, C, H, W) is folded unasked."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if not x.is_contiguous():
        return False
    positions = geometry.positions(x.shape)
    if geometry.pointwise:
        return (k - 1) * positions > k * geometry.in_channels
    if geometry.depthwise:
        return k >= LEAST_K or available()
    return geometry.groups == 1 and geometry.kernel == 3 and positions >= LEAST_POSITIONS
