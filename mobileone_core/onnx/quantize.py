"""A deployed network to a verified int8 file, if wanted with the weight ranges of neighbouring layers equalized."""

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError, require
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.network import MobileOne
from mobileone_core.onnx.export import OnnxVerification, export_onnx, operators, relative_error
from mobileone_core.onnx.int8 import OnnxNetwork, layer_ranges, quantize_onnx
from mobileone_core.onnx.scheme import Quantization

SWEEPS = 50  # over all pairs of layers; ranges have settled long before
TOLERANCE = 0.1  # of the largest output: a rounding that falls otherwise is carried through all layers


def _scaled(x: Tensor, scale: Tensor, axis: int) -> Tensor:
    """A scale or zero point per tensor, or per index of an axis, in a shape that x broadcasts with."""
    return scale if scale.numel() == 1 else scale.view([-1 if index == axis else 1 for index in range(x.ndim)])


def _quantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int = 1, **_: Any) -> Tensor:
    limits = torch.iinfo(zero.dtype)
    steps = torch.round(x / _scaled(x, scale, axis)) + _scaled(x, zero, axis)
    return steps.clamp(limits.min, limits.max)


def _dequantize(x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int = 1, **_: Any) -> Tensor:
    offset = 0 if zero is None else _scaled(x, zero, axis).float()
    return (x.float() - offset) * _scaled(x, scale, axis)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    top, left, *_ = options.get("pads", [0, 0])
    strides, groups = options.get("strides", [1, 1]), options.get("group", 1)
    return F.conv2d(x, weight, bias, strides, (top, left), options.get("dilations", [1, 1]), groups)


def _gemm(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    return F.linear(x, weight if options.get("transB") else weight.T, bias)


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _conv,
    "Gemm": _gemm,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "HardSwish": F.hardswish,
    "Gelu": F.gelu,
    "Mul": lambda x, y: x * y,
    "Add": lambda x, y: x + y,
    "ReduceMean": lambda x, axes, keepdims=1, **_: x.mean(axes.tolist(), keepdim=bool(keepdims)),
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Reshape": lambda x, shape, **_: x.reshape([len(x), *shape.tolist()[1:]]),
    "Flatten": lambda x, **_: x.flatten(1),
}


class SimulatedInt8(nn.Module):
    """The network of an int8 ONNX file: images (B, C, S, S) to logits (B, classes), in float32.

    It follows the ONNX standard and shares no kernel with ONNX Runtime: the reference that an int8 file is compared
    with. Raises InputError for an operator that it does not know.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        super().__init__()
        graph = onnx.load(path).graph
        arrays, self.nodes = {item.name: item for item in graph.initializer}, []
        for node in graph.node:
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type == "Constant":
                arrays[node.output[0]] = attributes["value"]
            elif node.op_type in OPERATORS:
                texts = {key: item.decode() if isinstance(item, bytes) else item for key, item in attributes.items()}
                self.nodes.append((OPERATORS[node.op_type], list(node.input), node.output[0], texts))
            else:
                raise InputError(f"{path.name}: no reference for its operator {node.op_type}; activation relu has one")
        to_array = onnx.numpy_helper.to_array
        self.constants = {name: torch.from_numpy(to_array(item).copy()) for name, item in arrays.items()}
        self.output = graph.output[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Execute the file's operators in their order."""
        values = {**self.constants, "images": images}
        for operator, inputs, output, attributes in self.nodes:
            values[output] = operator(*(values[name] if name else None for name in inputs), **attributes)
        return values[self.output]


@torch.no_grad()
def equalize(network: MobileOne) -> MobileOne:
    """Return a copy of a deployed network that computes the same, with weight ranges equalized channel by channel.

    A channel between two layers is divided by s in the first and multiplied by s in the second, with s = sqrt(r1 r2) /
    r2 and r the largest absolute weight of the channel: both then have the range sqrt(r1 r2). ReLU and pooling commute
    with s > 0. Pairs are repeated until the ranges settle. Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", ICCV 2019, section 4.1.

    Raises InputError for another activation than relu and for SE, which do not commute with a scale.
    """
    require(network.deployed, "equalize", "train form", "a deployed network: fold it first")
    activation = network.spec.activation
    require(activation == "relu", "equalize", activation, "networks with relu, which commutes with a scale per channel")
    network = copy.deepcopy(network)
    blocks = [module for module in network.modules() if isinstance(module, MobileOneBlock)]
    has_se = any(network.spec.se_blocks)
    require(not has_se, "equalize", "se", "networks without SE, which does not commute with a scale per channel")
    layers = [block.reparam_conv for block in blocks] + [network.head.fc]
    for _ in range(SWEEPS):
        change = max(_equalize_pair(*pair) for pair in itertools.pairwise(layers))  # type: ignore[arg-type]
        if change < 1e-4:
            break
    return network


def _equalize_pair(first: nn.Conv2d, second: nn.Conv2d | nn.Linear) -> float:
    """Equalize the channels between two layers; returns the largest change of a scale."""
    is_depthwise = isinstance(second, nn.Conv2d) and second.groups > 1
    incoming = second.weight if is_depthwise else second.weight.transpose(0, 1)
    ranges = [weight.flatten(1).abs().amax(1) for weight in (first.weight, incoming)]
    lives = (ranges[0] > 0) & (ranges[1] > 0)  # a channel that is 0 on one side stays as it is
    scale = torch.where(lives, (ranges[0] / ranges[1].clamp(min=1e-30)).sqrt(), 1.0)
    first.weight /= scale[:, None, None, None]
    if first.bias is not None:
        first.bias /= scale
    incoming *= scale.view(-1, *[1] * (incoming.ndim - 1))
    return float((scale.log()).abs().max())


def quantize_network(
    network: MobileOne, scheme: Quantization, calibration: Iterable[Tensor], target: Path
) -> tuple[list[dict[str, float]], int]:
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


def export_int8_onnx(
    network: MobileOne, scheme: Quantization, calibration: Iterable[Tensor], path: Path
) -> OnnxVerification:
    """Write a deployed network as a verified int8 file, as export_verified_onnx does in float32.

    Its outputs for a calibration batch are compared with those of the same file executed with torch. Raises InputError.
    """
    batches = iter(calibration)
    first = next(batches)
    ranges, _ = quantize_network(network, scheme, itertools.chain([first], batches), path)
    with torch.inference_mode():
        expected, outputs = SimulatedInt8(path)(first), OnnxNetwork(path)(first)
    error = relative_error([outputs], [expected])
    if not error <= TOLERANCE:
        raise InputError(f"{path.name}: its outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    return OnnxVerification(operators(path), len(ranges), error)
