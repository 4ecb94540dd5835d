"""Int8 files executed with torch: integers are simulated in float32, so that no product saturates or overflows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError

Operator = Callable[..., Tensor]


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


OPERATORS: Mapping[str, Operator] = {
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
        read = onnx.helper.get_attribute_value

        def tensor(array: Any) -> Tensor:
            return torch.from_numpy(onnx.numpy_helper.to_array(array).copy())

        self.constants = {item.name: tensor(item) for item in graph.initializer}
        self.nodes = []
        for node in graph.node:
            attributes = {item.name: read(item) for item in node.attribute}
            if node.op_type == "Constant":
                self.constants[node.output[0]] = tensor(attributes["value"])
            elif node.op_type in OPERATORS:
                texts = {key: item.decode() if isinstance(item, bytes) else item for key, item in attributes.items()}
                self.nodes.append((OPERATORS[node.op_type], list(node.input), node.output[0], texts))
            else:
                raise InputError(f"{path.name}: no reference for its operator {node.op_type}; activation relu has one")
        self.output = graph.output[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Execute the file's operators in their order."""
        values = {**self.constants, "images": images}
        for operator, inputs, output, attributes in self.nodes:
            values[output] = operator(*(values[name] if name else None for name in inputs), **attributes)
        return values[self.output]
