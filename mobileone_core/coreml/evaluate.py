"""Executes a Core ML program with torch, operator by operator: Core ML itself runs on Apple systems only."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mobileone_core.coreml import operators_spatial, operators_tensor
from mobileone_core.coreml.operators import Inputs, Value
from mobileone_core.coreml.program import Argument, Name, Program
from mobileone_core.errors import InputError

OPERATORS = operators_tensor.OPERATORS | operators_spatial.OPERATORS


def evaluate(program: Program, inputs: Mapping[str, Tensor], *, rounds: bool = False) -> dict[str, Value]:
    """Execute a program and return its outputs by name, in float32; a class label is a str.

    A float16 program computes in float32 with its rounded constants, so that it can be compared exactly. With rounds,
    every result that the program declares as FLOAT16 is rounded too, as on a device with float16 activations. Raises
    InputError for a missing input and for unsupported operators, inputs and modes.
    """
    if set(inputs) != set(program.inputs):
        raise InputError.of("inputs", ", ".join(sorted(inputs)), f"the program takes {', '.join(program.inputs)}")
    values: dict[str, Value] = {name: tensor.float() for name, tensor in inputs.items()}
    with torch.inference_mode():
        for operation in program.operations:
            given = {name: _value(argument, values) for name, argument in operation.inputs.items()}
            results = apply(Inputs(operation.kind, given, len(operation.results)))
            if len(results) != len(operation.results):
                raise InputError(f"operator {operation.kind}: {len(operation.results)} results, not {len(results)}")
            for name, is_half, result in zip(operation.results, operation.is_half, results, strict=True):
                values[name] = result.half().float() if rounds and is_half and isinstance(result, Tensor) else result
    return {name: values[name] for name in program.outputs}


def apply(inputs: Inputs) -> tuple[Value, ...]:
    """Compute the results of one operation. Raises InputError if its operator or an input is not supported."""
    function = OPERATORS.get(inputs.kind)
    if function is None:
        raise InputError(f"operator {inputs.kind} is not supported; supported: {', '.join(sorted(OPERATORS))}")
    result = function(inputs)
    unread = sorted(set(inputs.values) - inputs.read)
    if unread:
        raise InputError(f"operator {inputs.kind}: input {', '.join(unread)} is not supported")
    return result if isinstance(result, tuple) else (result,)


def _value(argument: Argument, values: Mapping[str, Value]) -> Value:
    if isinstance(argument, Name):
        return values[argument.text]
    if isinstance(argument, tuple):
        return tuple(_value(item, values) for item in argument)
    if argument.dtype.kind in "UO":
        texts = [str(item) for item in argument.reshape(-1)]
        return texts if argument.ndim else texts[0]
    tensor = torch.from_numpy(np.array(argument))
    return tensor.float() if tensor.is_floating_point() else tensor
