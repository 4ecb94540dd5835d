"""How a cell runs, as data: nothing here is part of what a cell is. No torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require
from mobileone_core.model.spec import BLOCK_EXECUTIONS, BlockExecution


@dataclass(frozen=True)
class Execution:
    """Device ("auto", "cpu", "cuda", "cuda:1"), threads a process, memory format, compilation, processes a cell, and
    whether a block trains branch by branch, folded into one convolution, or by the faster of both (model/folded).

    Several processes train one cell data-parallel: each takes its share of every batch, on a CPU or on a GPU of its
    own, the first on the device named. With sync_batchnorm BatchNorm sees the whole batch, else each share by itself;
    blocks are folded then, with "auto" all of them.
    """

    device: str = "auto"
    threads: int = 1
    channels_last: bool = False
    compile: bool = False
    processes: int = 1
    blocks: BlockExecution = "auto"
    sync_batchnorm: bool = False

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "an integer of 1 or more")
        require(self.processes >= 1, "processes", self.processes, "an integer of 1 or more")
        require(self.blocks in BLOCK_EXECUTIONS, "blocks", self.blocks, f"one of {', '.join(BLOCK_EXECUTIONS)}")
        fits = not self.sync_batchnorm or self.processes == 1 or self.blocks != "branches"
        require(fits, "sync_batchnorm", True, "with several processes it needs blocks folded or auto")
        kind, _, index = self.device.partition(":")
        fits = self.device in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())
        require(fits, "device", self.device, "auto, cpu, cuda or cuda:N")
