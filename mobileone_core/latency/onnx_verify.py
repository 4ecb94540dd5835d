"""Whether an ONNX file is the network: checked, its operators counted, its weights compared, run by ONNX Runtime."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobileone_core.errors import InputError
from mobileone_core.latency.onnx_export import export_onnx
from mobileone_core.model.network import MobileOne

TOLERANCE = 1e-4  # of the largest output


@dataclass(frozen=True)
class OnnxVerification:
    """Operators by kind, weight arrays compared, largest difference from torch over the largest output."""

    census: dict[str, int]
    weights: int
    error: float


def export_verified_onnx(network: MobileOne, image_size: int, path: Path, told: Mapping[str, str]) -> OnnxVerification:
    """Write a deployed network, with facts about it in the file's metadata, and verify what was written.

    Takes one image (1, C, S, S). Raises InputError where the file is not the network; the caller writes whole.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((1, network.spec.in_channels, image_size, image_size), generator=generator)
    export_onnx(network, images, path)
    found = verify_onnx(path, network, images)
    _tell(path, told)
    return found


def verify_onnx(path: Path, network: MobileOne, images: Tensor) -> OnnxVerification:
    """Hold a file against the deployed network: one convolution and its bias a block, every weight bit by bit.

    images: (B, C, S, S) of the exported shape. Raises InputError naming what differs.
    """
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path).graph
    census = dict(Counter(node.op_type for node in graph.node))
    layers = [item for item in network.modules() if isinstance(item, torch.nn.Conv2d | torch.nn.Linear)]
    convolutions = sum(isinstance(item, torch.nn.Conv2d) for item in layers)
    if census.get("Conv", 0) != convolutions or "BatchNormalization" in census:
        raise InputError(f"{path.name}: operators are not the network's; {census}, expected {convolutions} Conv")
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    parameters = dict(network.named_parameters())
    for name, wanted in parameters.items():
        if name not in arrays or not np.array_equal(arrays[name], wanted.detach().numpy()):
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


def _tell(path: Path, told: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(told))
    onnx.save(model, path)
