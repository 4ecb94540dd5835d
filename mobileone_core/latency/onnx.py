"""Networks as ONNX files: export, and verification of a file against its network."""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.errors import InputError
from mobileone_core.model.network import MobileOne

TOLERANCE = 1e-4  # of the largest output


def export_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    """Write a network in evaluation mode to one file, weights inside, for images of exactly this shape.

    images: (B, C, S, S). Input and output are named images and logits. The exporter's messages are suppressed, its
    errors are not.
    """
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (images,), path, **names, dynamo=True, optimize=True, external_data=False, verbose=False
            )
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class OnnxVerification:
    """Operators by kind, number of weight arrays compared, largest difference of outputs relative to the largest."""

    census: dict[str, int]
    weights: int
    error: float


def export_verified_onnx(
    network: MobileOne, image_size: int, path: Path, metadata: Mapping[str, str]
) -> OnnxVerification:
    """Export a deployed network for one image (1, C, S, S), verify the file, and write metadata into it.

    Raises InputError if the file does not compute what the network computes; the file is then left for the caller to
    remove.
    """
    import onnx

    generator = torch.Generator().manual_seed(0)
    images = torch.randn((1, network.spec.in_channels, image_size, image_size), generator=generator)
    export_onnx(network, images, path)
    verification = verify_onnx(path, network, images)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return verification


def verify_onnx(path: Path, network: MobileOne, images: Tensor) -> OnnxVerification:
    """Compare an ONNX file with the deployed network: its operators, every weight bit by bit, and its outputs.

    images: (B, C, S, S) of the exported shape. Raises InputError that names what differs.
    """
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path).graph
    census = dict(Counter(node.op_type for node in graph.node))
    layers = [item for item in network.modules() if isinstance(item, nn.Conv2d | nn.Linear)]
    convolutions = sum(isinstance(item, nn.Conv2d) for item in layers)
    if census.get("Conv", 0) != convolutions or "BatchNormalization" in census:
        raise InputError(f"{path.name}: operators are not the network's; {census}, expected {convolutions} Conv")
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    parameters = dict(network.named_parameters())
    for name, expected in parameters.items():
        if name not in arrays or not np.array_equal(arrays[name], expected.detach().numpy()):
            raise InputError(f"{path.name}: {name} is not the network's")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        reference = network(images)
    if not reference.isfinite().all():
        raise InputError("weights: the network's outputs are not finite; was it trained or calibrated?")
    error = float((torch.from_numpy(logits) - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
    if not error <= TOLERANCE:
        raise InputError(f"{path.name}: its outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    return OnnxVerification(census, len(parameters), error)
