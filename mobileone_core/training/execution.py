"""How a cell runs, as data: nothing here is part of what a cell is. No torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require


@dataclass(frozen=True)
class Execution:
    """Device ("auto", "cpu", "cuda", "cuda:1"), threads a process, memory format, compilation, processes a cell.

    Several processes train one cell data-parallel: each takes its share of every batch, on a CPU or on a GPU of its
    own, the first on the device named.
    """

    device: str = "auto"
    threads: int = 1
    channels_last: bool = False
    compile: bool = False
    processes: int = 1

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "an integer of 1 or more")
        require(self.processes >= 1, "processes", self.processes, "an integer of 1 or more")
        kind, _, index = self.device.partition(":")
        fits = self.device in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())
        require(fits, "device", self.device, "auto, cpu, cuda or cuda:N")
