"""A deployed network to a verified int8 file."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileone_core.errors import InputError
from mobileone_core.model.network import MobileOne
from mobileone_core.onnx.equalize import equalize
from mobileone_core.onnx.export import OnnxVerification, describe, export_onnx
from mobileone_core.onnx.int8 import LayerRange, OnnxNetwork, layer_ranges, quantize_onnx
from mobileone_core.onnx.reference import SimulatedInt8
from mobileone_core.onnx.scheme import Quantization

TOLERANCE = 0.1  # of the largest output: a rounding that falls otherwise is carried through all layers


def quantize_network(
    network: MobileOne, scheme: Quantization, calibration: Iterable[Tensor], target: Path
) -> tuple[list[LayerRange], int]:
    """Write a deployed network as a verified int8 file; returns its layers' ranges and the float32 file's bytes.

    calibration: batches of images (B, C, S, S); the first is the example for the export. Raises InputError if a weight
    is not within half a step of the network's.
    """
    network = equalize(network) if scheme.equalize else network
    batches = iter(calibration)
    first = next(batches)
    source = target.with_name(f"{target.name}.float32")
    try:
        export_onnx(network, first[:2] if len(first) > 1 else first.repeat(2, 1, 1, 1), source, any_batch=True)
        quantize_onnx(source, target, scheme, itertools.chain([first], batches))
        return layer_ranges(target, network), source.stat().st_size
    finally:
        source.unlink(missing_ok=True)


def export_int8_onnx(  # noqa: PLR0913, PLR0917
    network: MobileOne,
    scheme: Quantization,
    calibration: Iterable[Tensor],
    path: Path,
    metadata: Mapping[str, str],
    interface: Mapping[str, Any],
) -> OnnxVerification:
    """Write a deployed network as an int8 file with metadata, as export_verified_onnx does in float32.

    Its outputs for a calibration batch are compared with those of the same file executed with torch. Raises InputError.
    """
    import onnx

    batches = iter(calibration)
    first = next(batches)
    ranges, _ = quantize_network(network, scheme, itertools.chain([first], batches), path)
    with torch.inference_mode():
        expected, outputs = SimulatedInt8(path)(first), OnnxNetwork(path)(first)
    error = float((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not error <= TOLERANCE:
        raise InputError(f"{path.name}: its outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    describe(path, metadata, interface)
    census = Counter(node.op_type for node in onnx.load(path).graph.node)
    return OnnxVerification(dict(census), len(ranges), error)
