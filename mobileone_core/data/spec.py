"""Which images a cell trains on, as data: no torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require


@dataclass(frozen=True)
class DataSpec:
    """A data set by name, the resolution it is read at (pixels) and how validation is carved from training.

    fingerprint tells one image folder from another; the sets that have a name of their own leave it empty.
    """

    name: str = "digits"
    image_size: int = 32
    num_classes: int = 10
    channels: int = 1
    val_fraction: float = 0.1
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("image_size", "num_classes", "channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "a fraction between 0 and 1")
