"""Where the folded path is taken unasked: by kind, branches, size, dtype and device of a block, never by values.

Measured forward and backward of one block in float32 on a Xeon with AVX-512, processor time of one thread, branches
over folded (above 1 the folded path is faster), batch 8, maps of 224 to 14 px as in S0 / batch 64, maps of 16 to 4 px:

    k = 1   dense stem 2.7 / 0.9; depthwise 0.6 to 0.8 / 0.5; pointwise 0.5 to 1.25 / 0.7 to 0.8
    k = 4   dense stem 6.6 / 1.5; depthwise 1.1 to 1.5 / 1.1 at 8 px, 0.9 at 4 px; pointwise 1.1 to 3.9 / 1.6 to 1.9

Whole S0 steps at k = 4: 1.8 at 8 x 224 px, 1.3 at 32 x 64 px, where leaving its depthwise maps of 4 px and less to the
branches made it slower, not faster. What is not measured stays with the branches: k = 2 and 3, other devices, dtypes
and kinds.
"""

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import Geometry

LEAST_K = 4  # the fewest branches that pay for the moments
LARGE_IMAGE = 224  # pixels from which a dense stem is faster with a single branch


def pays(geometry: Geometry, k: int, x: Tensor) -> bool:
    """Whether a block with k branches and an input x (N, C, H, W) is folded unasked."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if geometry.groups == 1 and geometry.kernel == 3:
        return k >= LEAST_K or min(x.shape[2:]) >= LARGE_IMAGE
    return k >= LEAST_K and (geometry.pointwise or geometry.depthwise)
