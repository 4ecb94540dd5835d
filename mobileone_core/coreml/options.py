"""What an export is asked to be, as data: no torch here."""

from dataclasses import dataclass
from typing import Literal

from mobileone_core.errors import require

Precision = Literal["float16", "float32"]


@dataclass(frozen=True)
class Pixels:
    """An image as input: pixels from 0 to 255 in, a class label and the probabilities of all out.

    mean and std of pixels in [0, 1], one a channel (grey or RGB); labels: a different one a class.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.mean) in (1, 3), "channels", len(self.mean), "Core ML reads images of 1 (grey) or 3 channels")
        require(len(self.std) == len(self.mean) and min(self.std) > 0, "std", self.std, "above 0, one a channel")
        distinct = len(set(self.labels)) == len(self.labels)
        require(distinct, "labels", f"{len(self.labels)} labels", "every class has a label of its own")


@dataclass(frozen=True)
class Options:
    """image_size in pixels; without pixels the input is a normalized tensor and the output logits, nothing added."""

    image_size: int
    precision: Precision = "float16"
    pixels: Pixels | None = None
