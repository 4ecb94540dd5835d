"""Converts a network to a Core ML program, which verify.py then checks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.coreml.program import LOGGER, import_coremltools
from mobileone_core.errors import InputError
from mobileone_core.model.network import ExportNetwork, outputs_of
from mobileone_core.onnx.export import quiet

IMAGES = "images"
DEBUG = "executorch_debug_handle_mapping.json"  # a leftover of the converter
DATE = "com.github.apple.coremltools.conversion_date"  # the only metadata that changes from day to day


class PixelNetwork(nn.Module):
    """Maps pixels from 0 to 255, (N, C, H, W), to probabilities (N, classes): normalization, network, softmax.

    Without labels it returns the network's outputs.

    Normalization is one addition and one multiplication per channel, since Core ML's image type has one scale for all
    channels. In the other order the converter would emit a batch_norm, whose epsilon changes the result by 5e-6.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network, self.labels = network, pixels.labels
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (pixels.mean, pixels.std))
        self.register_buffer("shift", -255 * mean)
        self.register_buffer("scale", 1 / (255 * std))

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the network's outputs for pixels: logits (N, classes) if it classifies."""
        return outputs_of(self.network, (images + self.shift) * self.scale)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.raw(images)
        return (outputs[0].softmax(1),) if self.labels else outputs


def whole_network(network: nn.Module, options: Options) -> nn.Module:
    """Return the network in eval mode; with normalization, and softmax for labels, if options.pixels is an image."""
    return (PixelNetwork(network, options.pixels) if options.pixels else network).eval()


def convert(network: nn.Module, channels: int, options: Options) -> Any:
    """Convert a network in evaluation mode to coremltools' MLModel: an ML program for iOS 16 and newer, batch 1.

    In float16 the input and output tensors are float16 too, so that the program has no casts. The converter silently
    turns nn.GELU("tanh") into the exact GELU: verification detects it. Raises InputError for a weight beyond float16.
    """
    if options.precision == "float16":
        _check_range(network)
    ct = import_coremltools()
    shape = (1, channels, options.image_size, options.image_size)
    dtype = np.float16 if options.precision == "float16" else np.float32
    images = ct.TensorType(IMAGES, shape, dtype=dtype)
    if options.pixels:
        layout = ct.colorlayout.GRAYSCALE if channels == 1 else ct.colorlayout.RGB
        images = ct.ImageType(IMAGES, shape, color_layout=layout)
    names = getattr(network, "output_names", ExportNetwork.output_names)
    outputs: dict[str, Any] = {"outputs": [ct.TensorType(name, dtype=dtype) for name in names]}
    if options.labels:
        outputs = {"classifier_config": ct.ClassifierConfig(list(options.labels))}
    with quiet(LOGGER):
        exported = torch.export.export(whole_network(network, options), (torch.zeros(shape),)).run_decompositions({})
        model = ct.convert(
            exported,
            inputs=[images],
            convert_to="mlprogram",
            compute_precision=getattr(ct.precision, options.precision.upper()),
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
            **outputs,
        )
        return _with_int8_weights(model) if options.int8 else model


def _with_int8_weights(model: Any) -> Any:
    from coremltools.optimize import coreml as optimize

    layer = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", granularity="per_channel", weight_threshold=0)
    config = optimize.OptimizationConfig(op_type_configs={"conv": layer, "linear": layer})
    return optimize.linear_quantize_weights(model, config)


def save(model: Any, package: Path, metadata: Mapping[str, str], interface: Mapping[str, Any] | None = None) -> None:
    """Write an MLModel with user-defined metadata as a package; the same model gives the same hashes.

    interface: author, license, description, inputs and outputs as the manifest has them, for the fields of Core ML.
    """
    model.user_defined_metadata.pop(DATE, None)
    model.user_defined_metadata.update(metadata)
    if interface:
        model.author, model.license = interface["author"], interface["license"]
        model.short_description = interface["description"]
        for texts, values in ((model.input_description, "inputs"), (model.output_description, "outputs")):
            for value in interface[values]:
                texts[value["name"]] = value["description"]
    with quiet(LOGGER):
        model.save(str(package))
    (package / DEBUG).unlink(missing_ok=True)


def _check_range(network: nn.Module) -> None:
    limit = torch.finfo(torch.float16).max
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.abs().max() > limit:
            raise InputError(f"precision: {name} reaches {value.abs().max():.3g}, beyond float16; use float32")
