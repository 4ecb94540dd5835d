"""Where the folded path is taken unasked: by kind, branches, size, layout, dtype and device, never by values.

Measured forward and backward of one block in float32 on a Xeon with AVX-512, one thread, branches over folded (above 1
the folded path is faster), by tests/benchmarks/bench_folded_blocks.py; the blocks of S0 at batch 8 and 224 px / at
batch 32 and 64 px / of tiny at batch 64 and 16 px:

    k = 1   dense 2.1 / 1.6 / 0.6; depthwise 0.7 to 2.2 / 0.8 to 1.3 / 0.9 to 1.5; pointwise 0.6 to 0.9
    k = 2   dense 1.9 / 1.3 / 0.5; depthwise 1.1 to 3.3 / 1.0 to 1.8 / 1.1 to 2.1; pointwise 0.8 to 1.6
    k = 4   dense 2.0 / 1.6 / 0.6; depthwise 1.5 to 4.9 / 1.5 to 4.4 / 1.5 to 3.2; pointwise 1.1 to 2.7

Depthwise blocks with k = 1 paid from 6272 positions on (1.1 to 2.2); on 4096 and fewer they were worth 0.7 to 1.1, but
for S0's fourteen rows (1.6) and tiny's two (1.5).

A pointwise block saves k - 1 branches at every position and pays for k quadratic forms in C channels. With more
positions than channels, and up to 256 channels, it paid from k = 4 on (1.1 to 5.2); else what it is worth, with
2 (k - 1) positions / ((k + 2) C) below, at and above 1, S4 at 8 x 224 and 32 x 64 px included:

    k = 2   below 0.5 to 1.1; at 1 0.9; above 1.0 to 2.1, but for tiny's narrow ones on few positions 0.8 to 1.0
    k = 4   below 0.5 to 0.7; above 1.2 to 3.4
    k = 8   below 0.8; above 1.7 to 6.3

With no more positions than channels its algebra is in float64: 256 channels on 128 positions 0.4 to 0.6, whatever k.
A block of one branch has nothing to fold: with bench_training_step.py --no-reparam --k 1 S0 took 1.5 times the time at
8 x 224 px, tiny 2.1 times at 64 x 32 (two threads).
Without a compiler depthwise blocks paid from k = 4 on (1.1 to 1.5), and pointwise ones where (k - 1) positions > k C.
On an EPYC (Zen 4) the same choices paid, but for some blocks with k = 2: depthwise ones on 2048 positions and fewer
were worth 0.9 to 1.9, pointwise ones 0.7 to 1.9.
What is not measured stays with the branches.
"""

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.spec import BlockSpec

LEAST_K = 4  # the fewest branches that pay for the moments of a depthwise block without a compiler, and for NARROW ones
NARROW = 256  # channels
LEAST_POSITIONS = 2**14  # that pay for those of a dense block
LEAST_ALONE = 6000  # that pay for those of a depthwise block whose k is 1


def folding_is_faster(spec: BlockSpec, x: Tensor) -> bool:
    """Whether a block with an input x (N, C, H, W) is folded unasked."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if not spec.reparam or not x.is_contiguous():
        return False
    geometry, k = Geometry.of(spec), spec.k
    if geometry.pointwise:
        return _pointwise_pays(geometry, k, x)
    positions = geometry.positions(x.shape)
    if geometry.depthwise:
        return k >= LEAST_K or (available() and (k > 1 or positions >= LEAST_ALONE))
    return geometry.groups == 1 and geometry.kernel == 3 and positions >= LEAST_POSITIONS


def _pointwise_pays(geometry: Geometry, k: int, x: Tensor) -> bool:
    positions, channels = geometry.positions(x.shape), geometry.in_channels
    if not available():
        return (k - 1) * positions > k * channels
    if not geometry.can_have_full_rank(x.shape):  # where the algebra is in float64
        return False
    return (k >= LEAST_K and channels <= NARROW) or 2 * (k - 1) * positions > (k + 2) * channels
