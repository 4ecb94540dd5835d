"""Functions on tensors that torch.compile takes as operators, without tracing into them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
OPERATORS: dict[str, Any] = {}  # torch's, by name: for torch.library.opcheck


def operator(family: str, fake: Callable[..., Any]) -> Callable[[Function], Function]:
    """Decorate a function on tensors: torch.compile then takes it as the operator FAMILY_NAME.

    fake makes empty results from the same arguments. Outside torch.compile the function itself is called, which costs
    a tenth of what its operator does.
    """

    def decorate(function: Function) -> Function:
        name = f"{family}_{function.__name__}"
        registered = torch.library.custom_op(f"mobileone_ablations::{name}", mutates_args=())(function)
        registered.register_fake(fake)
        OPERATORS[name] = registered

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return registered(*arguments) if torch.compiler.is_compiling() else function(*arguments)

        return cast("Function", call)

    return decorate
