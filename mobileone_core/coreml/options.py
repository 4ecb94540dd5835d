"""Options of an export, as data."""

from dataclasses import dataclass
from typing import Literal

from mobileone_core.errors import require

Precision = Literal["float16", "float32"]


@dataclass(frozen=True)
class Pixels:
    """An image as input: pixels from 0 to 255 in, a class label and the probabilities of all classes out.

    mean and std are those of pixels in [0, 1], one per channel (grey or RGB); labels are distinct, one per class.
    Without labels the outputs are the network's, as those of a detector.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.mean) in (1, 3), "channels", len(self.mean), "Core ML reads images of 1 (grey) or 3 channels")
        require(len(self.std) == len(self.mean) and min(self.std) > 0, "std", self.std, "above 0, one per channel")
        distinct = len(set(self.labels)) == len(self.labels)
        require(distinct, "labels", f"{len(self.labels)} labels", "distinct labels, one per class")


@dataclass(frozen=True)
class Options:
    """Resolution in pixels, precision, and pixels; without pixels the input is a normalized tensor, output logits.

    int8: weights of convolutions and linear layers are int8, symmetric, with a scale per output channel.
    """

    image_size: int
    precision: Precision = "float16"
    pixels: Pixels | None = None
    int8: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of a program that classifies an image; empty if the outputs are the network's."""
        return self.pixels.labels if self.pixels else ()
