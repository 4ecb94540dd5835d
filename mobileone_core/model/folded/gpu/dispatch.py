"""Which inputs the Triton kernels serve: decided by device, dtype and kind of a block, never by values."""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry

INSTALLED = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_CAPABILITY = (8, 0)  # tensor cores for bfloat16 and tf32


def gpu_moments(x: Tensor, geometry: Geometry) -> Moments | None:
    """Moments of x (N, C, H, W) in float32 by Triton kernels; None where they do not serve, and PyTorch does."""
    if not _serves(x):
        return None
    if geometry.pointwise:
        from mobileone_core.model.folded.gpu.pointwise import pointwise_moments

        mean, covariance = pointwise_moments(x)
        return Moments(mean.unsqueeze(0), covariance.unsqueeze(0))
    # a tap that only ever sees padding needs a centre of its own
    if geometry.depthwise and min(geometry.sizes(x.shape)) > 1:
        from mobileone_core.model.folded.gpu.depthwise import depthwise_moments

        return Moments(*depthwise_moments(x, geometry.stride))
    return None


def _serves(x: Tensor) -> bool:
    if not INSTALLED or x.dtype not in DTYPES:
        return False
    return INTERPRETED if x.device.type == "cpu" else x.device.type == "cuda" and _capable(x.device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capable(device: torch.device) -> bool:
    """Whether an NVIDIA GPU has the tensor cores that the kernels ask for."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
