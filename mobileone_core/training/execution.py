"""How a cell runs, as data; nothing here is part of what a cell is."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.errors import require, require_integer
from mobileone_core.fields import check_options, option
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.recipe import Precision, RecipePrecision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Execution:
    """Device, threads, memory format, compilation, number of processes and how blocks train (model/folded).

    Several processes train one cell data-parallel: each takes its share of every batch, on a CPU or on its own GPU, the
    first process on the device named. With sync_batchnorm BatchNorm sees the whole batch, else each process's share;
    blocks are then folded, with "auto" all of them. Raises InputError.

    Example:
        >>> Execution("cpu", threads=2).blocks
        'auto'
    """

    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    threads: int = option(1, "Threads per process.", require_integer)
    channels_last: bool = option(False, "Train in channels-last memory format.")
    compile: bool = option(False, "Train with torch.compile.")
    processes: int = option(1, "Processes that train one cell, data-parallel, each on a GPU or a CPU.", require_integer)
    blocks: BlockExecution = option(
        "auto", "How a block trains: branch by branch, folded into one convolution (exact), or the faster of both."
    )
    sync_batchnorm: bool = option(
        False, "Normalize by the batch of all processes, not by each one's share; needs blocks folded or auto."
    )

    def __post_init__(self) -> None:
        check_options(self)
        fits = not self.sync_batchnorm or self.processes == 1 or self.blocks != "branches"
        require(fits, "sync_batchnorm", True, "with several processes it needs blocks folded or auto")
        fits = re.fullmatch("auto|cpu|cuda(:[0-9]+)?", self.device) is not None
        require(fits, "device", self.device, "auto, cpu, cuda or cuda:N")

    def memory_format(self, device: "torch.device", precision: RecipePrecision = "32") -> "torch.memory_format":
        """The memory format of networks and images on a device; mixed precision brings its own on a GPU."""
        import torch

        is_last = self.channels_last or (precision == "mixed" and device.type == "cuda")
        return torch.channels_last if is_last else torch.contiguous_format


def resolve_device(execution: Execution, precision: RecipePrecision) -> "torch.device":
    """The device to run on, checked to exist and to support precision and memory format.

    "auto" is the first GPU if there is one, else the CPU. Several processes need as many GPUs: the resolved one and
    those after it. Raises InputError.
    """
    import torch

    count = torch.cuda.device_count()
    device = torch.device(("cuda" if count else "cpu") if execution.device == "auto" else execution.device)
    if device.type == "cuda":
        index, allowed = device.index or 0, f"this machine has {count} CUDA devices"
        require(index < count, "device", execution.device, allowed)
        require(index + execution.processes <= count, "processes", execution.processes, f"one per GPU, and {allowed}")
        return torch.device("cuda", index)
    require(precision != "16-mixed", "precision", precision, "on a CPU it is 32 or bf16-mixed")
    # torch 2.14's backward of a channels-last 1x1 convolution, 3 channels, stride 2 (the stem), writes out of bounds
    require(not execution.channels_last, "channels_last", True, "it needs a GPU: on a CPU torch corrupts memory")
    return device


def resolve_precision(device: "torch.device", precision: RecipePrecision) -> Precision:
    """A recipe's precision on a device: mixed is 16-mixed on a GPU, and 32 on a CPU."""
    if precision == "mixed":
        return "16-mixed" if device.type == "cuda" else "32"
    return precision


def autocast(device: "torch.device", precision: RecipePrecision) -> "torch.autocast":
    """The context in which networks compute in a recipe's precision; it changes nothing for 32."""
    import torch

    dtypes = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = dtypes.get(resolve_precision(device, precision))
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
