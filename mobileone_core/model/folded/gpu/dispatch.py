"""Which inputs the Triton kernels serve: decided by device, dtype and kind of a block, never by values."""

from importlib.util import find_spec

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.layout import INTERPRETED
from mobileone_core.model.folded.statistics import PatchStatistics

INSTALLED = find_spec("triton") is not None
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_CAPABILITY = (8, 0)  # tensor cores for bfloat16 and tf32


def gpu_statistics(geometry: Geometry, x: Tensor) -> PatchStatistics | None:
    """Statistics of x (N, C, H, W) by Triton kernels; None where there is no kernel for it."""
    # with one output row or column, some taps see nothing but padding, and need a centre of their own
    depthwise = geometry.depthwise and min(geometry.sizes(x.shape)) > 1
    if not _serves(x) or not (geometry.pointwise or depthwise):
        return None
    from mobileone_core.model.folded.gpu.statistics import TritonDepthwise, TritonPointwise

    return TritonPointwise(geometry) if geometry.pointwise else TritonDepthwise(geometry)


def _serves(x: Tensor) -> bool:
    if not INSTALLED or x.dtype not in DTYPES:
        return False
    return INTERPRETED if x.device.type == "cpu" else x.device.type == "cuda" and _capable(x.device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capable(device: torch.device) -> bool:
    """Whether an NVIDIA GPU has the tensor cores that the kernels use."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
