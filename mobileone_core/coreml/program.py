"""Reads a Core ML program from its package, without the converter's classes."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileone_core.coreml.package import MODEL, WEIGHTS
from mobileone_core.errors import InputError
from mobileone_core.onnx.export import quiet

BLOB = struct.Struct("<IIQQ")  # sentinel, type, bytes, offset: the header of every array in weight.bin
SENTINEL = 0xDEADBEEF
LOGGER = "coremltools"
TYPES = {name.upper(): np.dtype(name) for name in ("float16", "float32", "int8", "int32", "bool")}
TYPES["STRING"] = np.dtype(np.str_)


@dataclass(frozen=True)
class Name:
    """A reference to the result of another operation or to an input of the program."""

    text: str


Constant = NDArray[Any]
Argument = Name | Constant | tuple["Argument", ...]


@dataclass(frozen=True)
class Operation:
    """An operation: kind (conv, relu, ...), inputs with inlined constants, and results, which may be FLOAT16."""

    kind: str
    inputs: Mapping[str, Argument]
    results: tuple[str, ...]
    is_half: tuple[bool, ...]


@dataclass(frozen=True)
class Program:
    """A program: names of inputs and outputs, and the operations in execution order, without constants."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]

    def census(self) -> dict[str, int]:
        """Count the operations of each kind."""
        return dict(Counter(operation.kind for operation in self.operations))


def import_coremltools() -> Any:
    """Import coremltools, which takes seconds."""
    with quiet(LOGGER):
        import coremltools

        return coremltools


def read_spec(package: Path) -> Any:
    """Read a package's model as a protobuf message. Raises InputError if the file is missing or broken."""
    spec = import_coremltools().proto.Model_pb2.Model()
    try:
        spec.ParseFromString((package / MODEL).read_bytes())
    except Exception as error:  # a broken file raises protobuf's own errors
        raise InputError(f"{package}: not a readable Core ML package ({type(error).__name__})") from error
    return spec


def read_program(package: Path) -> Program:
    """Read the program of a package. Raises InputError unless it is one ML program without control flow."""
    spec = read_spec(package)
    if spec.WhichOneof("Type") != "mlProgram" or list(spec.mlProgram.functions) != ["main"]:
        raise InputError(f"{package}: not an ML program with one function, main")
    main = spec.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    weights = package / WEIGHTS
    reader = _Reader(weights.read_bytes() if weights.is_file() else b"")
    inputs = tuple(item.name for item in main.inputs)
    return Program(inputs, tuple(block.outputs), tuple(reader.operations(block.operations)))


class _Reader:
    """Decodes operations and inlines constants where they are used."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.constants: dict[str, Constant] = {}

    def operations(self, messages: Any) -> Iterator[Operation]:
        for message in messages:
            if message.type == "const":
                self.constants[message.outputs[0].name] = self._value(message.attributes["val"])
                continue
            if message.type == "constexpr_affine_dequantize":
                self.constants[message.outputs[0].name] = self._dequantized(message.attributes)
                continue
            if message.blocks:
                raise InputError(f"operator {message.type}: nested operations are not supported")
            inputs = {name: self._argument(given.arguments) for name, given in message.inputs.items()}
            inputs |= {name: self._value(value) for name, value in message.attributes.items() if name != "name"}
            names = tuple(item.name for item in message.outputs)
            halves = tuple(_type_name(item.type.tensorType) == "FLOAT16" for item in message.outputs)
            yield Operation(message.type, inputs, names, halves)

    def _dequantized(self, attributes: Any) -> Constant:
        """The weights of int8 values, zero points and scales, which are per tensor or per index of an axis."""
        names = ("quantized_data", "zero_point", "scale", "axis")
        values, zero, scale, axis = (self._value(attributes[name]) for name in names)
        shape = [-1 if index == axis else 1 for index in range(values.ndim)] if scale.ndim else []
        steps = values.astype(np.float32) - zero.astype(np.float32).reshape(shape)
        return (steps * scale.astype(np.float32).reshape(shape)).astype(scale.dtype)

    def _argument(self, bindings: Any) -> Argument:
        values = tuple(
            self._value(item.value)
            if item.WhichOneof("binding") == "value"
            else self.constants.get(item.name, Name(item.name))
            for item in bindings
        )
        return values[0] if len(values) == 1 else values

    def _value(self, value: Any) -> Constant:
        """Decode a value as an array of its declared shape and type."""
        if value.type.WhichOneof("type") == "listType":
            items = value.immediateValue.list.values
            return np.array([item.immediateValue.tensor.strings.values[0] for item in items])
        kind = value.type.tensorType
        shape = tuple(int(item.constant.size) for item in kind.dimensions)
        dtype = TYPES.get(_type_name(kind))
        if dtype is None:
            raise InputError(f"a constant of type {_type_name(kind)} is not supported; supported: {', '.join(TYPES)}")
        if value.WhichOneof("value") == "blobFileValue":
            sentinel, _, size, start = BLOB.unpack_from(self.blob, value.blobFileValue.offset)
            if sentinel != SENTINEL:
                raise InputError(f"weight.bin: no array at byte {value.blobFileValue.offset}")
            return np.frombuffer(self.blob[start : start + size], dtype).reshape(shape)
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            return np.frombuffer(tensor.bytes.values, dtype).reshape(shape)
        return np.array(list(getattr(tensor, field).values), dtype).reshape(shape)


def _type_name(tensor_type: Any) -> str:
    return str(tensor_type.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number[tensor_type.dataType].name)
