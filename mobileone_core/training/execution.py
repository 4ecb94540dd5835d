"""How a cell runs, as data: nothing here is part of what a cell is. No torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require


@dataclass(frozen=True)
class Execution:
    """Device ("auto", "cpu", "cuda", "cuda:1"), threads a cell, memory format, compilation."""

    device: str = "auto"
    threads: int = 1
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "an integer of 1 or more")
        kind, _, index = self.device.partition(":")
        fits = self.device in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())
        require(fits, "device", self.device, "auto, cpu, cuda or cuda:N")
