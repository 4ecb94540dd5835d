"""Functions on tensors as operators of torch: called as they are, or whole in what torch.compile traces."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

Function = Callable[..., Any]


def registered(family: str, fakes: Mapping[Function, Function]) -> dict[Function, Function]:
    """Every function's operator; a fake makes empty results of the same arguments."""
    operators: dict[Function, Function] = {}
    for function, fake in fakes.items():
        name = f"mobileone_ablations::{family}_{function.__name__}"
        operator = torch.library.custom_op(name, mutates_args=())(function)
        operator.register_fake(fake)
        operators[function] = operator
    return operators


def chosen(operators: Mapping[Function, Function], function: Function) -> Function:
    """Called directly, a function costs a tenth of what its operator does; torch.compile can take that alone."""
    return operators[function] if torch.compiler.is_compiling() else function
