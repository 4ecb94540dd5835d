"""From a network to an ML program. What comes out counts only once it is verified."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.coreml.quiet import import_coremltools, quiet
from mobileone_core.errors import InputError

IMAGES, LOGITS = "images", "logits"
DEBUG = "executorch_debug_handle_mapping.json"  # a file that the converter leaves, and nothing reads here
DATE = "com.github.apple.coremltools.conversion_date"  # the only thing that differs from one day to the next


class PixelNetwork(nn.Module):
    """Pixels from 0 to 255, (N, C, H, W), to probabilities (N, classes): normalization, network, softmax.

    Normalization is one addition and one multiplication a channel: Core ML's image type has one scale for all. In the
    other order the converter would make a batch_norm of the two, whose epsilon changes the result by 5e-6.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (pixels.mean, pixels.std))
        self.register_buffer("shift", -255 * mean)
        self.register_buffer("scale", 1 / (255 * std))

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.network((images + self.shift) * self.scale)
        return out

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images).softmax(1)


def whole_network(network: nn.Module, options: Options) -> nn.Module:
    """What the program computes: the network alone, or with all that an image as input brings."""
    return (PixelNetwork(network, options.pixels) if options.pixels else network).eval()


def convert(network: nn.Module, channels: int, options: Options) -> Any:  # noqa: ANN401
    """A network in evaluation mode as coremltools' MLModel: an ML program for iOS 16 and newer, batch 1.

    In float16 the input and output tensors are float16 too, so that the program holds no casts. nn.GELU("tanh") comes
    out as the exact GELU without a word: verification finds it. Raises InputError for a weight above float16's range.
    """
    if options.precision == "float16":
        _check_range(network)
    ct = import_coremltools()
    shape = (1, channels, options.image_size, options.image_size)
    dtype = np.float16 if options.precision == "float16" else np.float32
    asked: dict[str, Any] = {}
    if options.pixels is None:
        asked["inputs"] = [ct.TensorType(IMAGES, shape, dtype=dtype)]
        asked["outputs"] = [ct.TensorType(LOGITS, dtype=dtype)]
    else:
        layout = ct.colorlayout.GRAYSCALE if channels == 1 else ct.colorlayout.RGB
        asked["inputs"] = [ct.ImageType(IMAGES, shape, color_layout=layout)]
        asked["classifier_config"] = ct.ClassifierConfig(list(options.pixels.labels))
    with quiet():
        exported = torch.export.export(whole_network(network, options), (torch.zeros(shape),)).run_decompositions({})
        return ct.convert(
            exported,
            convert_to="mlprogram",
            compute_precision=getattr(ct.precision, options.precision.upper()),
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
            **asked,
        )


def save(model: Any, package: Path, told: dict[str, str]) -> None:  # noqa: ANN401
    """Write an MLModel as a package, with facts about it in its metadata; the same model gives the same hashes."""
    model.user_defined_metadata.pop(DATE, None)
    model.user_defined_metadata.update(told)
    with quiet():
        model.save(str(package))
    (package / DEBUG).unlink(missing_ok=True)


def _check_range(network: nn.Module) -> None:
    limit = torch.finfo(torch.float16).max
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.abs().max() > limit:
            raise InputError(f"precision: {name} reaches {value.abs().max():.3g}, beyond float16; use float32")
