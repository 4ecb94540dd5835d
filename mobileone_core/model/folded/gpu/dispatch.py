"""Which inputs the Triton kernels serve: decided by device, dtype and kind of a block, never by values."""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.kind import PatchStatistics

INSTALLED = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_CAPABILITY = (8, 0)  # tensor cores for bfloat16 and tf32


def gpu_statistics(geometry: Geometry, x: Tensor) -> PatchStatistics | None:
    """By Triton kernels on x (N, C, H, W); None where they do not serve, and PyTorch does."""
    # a tap that only ever sees padding needs a centre of its own
    depthwise = geometry.depthwise and min(geometry.sizes(x.shape)) > 1
    if not _serves(x) or not (geometry.pointwise or depthwise):
        return None
    from mobileone_core.model.folded.gpu.kinds import FusedDepthwise, FusedPointwise

    return FusedPointwise(geometry) if geometry.pointwise else FusedDepthwise(geometry)


def _serves(x: Tensor) -> bool:
    if not INSTALLED or x.dtype not in DTYPES:
        return False
    return INTERPRETED if x.device.type == "cpu" else x.device.type == "cuda" and _capable(x.device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capable(device: torch.device) -> bool:
    """Whether an NVIDIA GPU has the tensor cores that the kernels ask for."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
