"""Post-training quantization to 8 bits, as data."""

from dataclasses import dataclass
from typing import Literal

from mobileone_core.errors import require_integer
from mobileone_core.fields import check_options, option

Scheme = Literal["none", "weights", "full"]
Granularity = Literal["tensor", "channel"]
Calibration = Literal["minmax", "percentile", "entropy"]


@dataclass(frozen=True)
class Quantization:
    """How a deployed network is quantized to 8 bits after training; fields without effect take their defaults.

    full is ONNX Runtime's static quantization (QDQ): weights int8 and symmetric, activations uint8. weights leaves the
    activations in float32. Raises InputError.
    """

    scheme: Scheme = option("none", "What is int8: nothing (none), the weights, or weights and activations (full).")
    granularity: Granularity = option("tensor", "A scale per weight tensor, or per output channel.")
    calibration: Calibration = option("minmax", "Range of an activation: all values, a percentile, or least entropy.")
    images: int = option(128, "Training images that ranges of activations are measured on.", require_integer)
    equalize: bool = option(False, "Cross-layer equalization after folding (Nagel et al., ICCV 2019).")

    def __post_init__(self) -> None:
        check_options(self)
        unused = {"none": ("granularity", "equalize", "calibration", "images"), "weights": ("calibration", "images")}
        for name in unused.get(self.scheme, ()):
            object.__setattr__(self, name, getattr(Quantization, name))
