"""Which device a cell runs on. No Lightning here."""

import torch

from mobileone_core.errors import require
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Precision


def resolve_device(execution: Execution, precision: Precision) -> torch.device:
    """A device that is there and knows precision and layout; auto takes the first GPU where there is one.

    Several processes of a cell need as many GPUs: that one and the next ones.
    """
    count = torch.cuda.device_count()
    device = torch.device(("cuda" if count else "cpu") if execution.device == "auto" else execution.device)
    if device.type == "cuda":
        index = device.index or 0
        allowed = f"this machine has {count} CUDA devices"
        require(index < count, "device", execution.device, allowed)
        require(index + execution.processes <= count, "processes", execution.processes, f"one a GPU, and {allowed}")
        return torch.device("cuda", index)
    require(precision != "16-mixed", "precision", precision, "on a CPU it is 32 or bf16-mixed")
    # torch 2.14's backward of a channels-last 1x1 convolution, 3 channels, stride 2 (the stem), writes out of bounds
    require(not execution.channels_last, "channels_last", True, "it needs a GPU: on a CPU torch corrupts memory")
    return device
