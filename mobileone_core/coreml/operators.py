"""Typed access to the inputs of a Core ML operation.

The operators follow the iOS 16 operator set (coremltools' MIL reference). Unsupported operators, inputs and modes raise
InputError, so that nothing passes verification without being computed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from mobileone_core.errors import InputError

Value = Tensor | str | list[str] | tuple["Value", ...]
Result = Tensor | tuple[Value, ...]
Kind = TypeVar("Kind")


class Inputs:
    """The inputs of one operation by name; records which of them were read."""

    def __init__(self, kind: str, values: Mapping[str, Value], results: int = 1) -> None:
        self.kind, self.values, self.results = kind, values, results
        self.read: set[str] = set()

    def tensor(self, name: str) -> Tensor:
        """Return a tensor input. Raises InputError if the operation does not have it."""
        return self.of_type(name, Tensor, "a tensor")

    def of_type(self, name: str, kind: type[Kind], expected: str) -> Kind:
        """Return an input. Raises InputError if it is missing or of another type than the expected one."""
        value = self._get(name)
        if not isinstance(value, kind):
            raise self.refusal(name, value, f"expected {expected}")
        return value

    def optional(self, name: str) -> Tensor | None:
        """Return a tensor input, or None if the operation does not have it."""
        return self.tensor(name) if name in self.values else None

    def tensors(self, name: str) -> list[Tensor]:
        """Return the tensors of a list input, or a tensor input as a list of one."""
        value = self._get(name)
        items = value if isinstance(value, tuple) else (value,)
        return [item for item in items if isinstance(item, Tensor)]

    def number(self, name: str, default: float | None = None) -> float:
        """Return a scalar input as float, or the default if it is missing; required without one."""
        if default is not None and name not in self.values:
            return default
        return float(self.tensor(name).item())

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Return a tensor input's elements as integers, or the default if it is missing; required without one."""
        if default is not None and name not in self.values:
            return list(default)
        return [int(item) for item in self.tensor(name).reshape(-1).tolist()]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a scalar input as bool, or the default if the operation does not have it."""
        return default if name not in self.values else bool(self.tensor(name).item())

    def text(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Return a string input, or the default if it is missing. Raises InputError unless that is an allowed value."""
        value = default if name not in self.values else self._get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.refusal(name, value, f"supported: {', '.join(allowed)}")
        return value

    def only(self, name: str, allowed: float) -> None:
        """Raise InputError if the operation has this scalar input with another value than the allowed one."""
        if self.number(name, allowed) != allowed:
            raise self.refusal(name, self.number(name), f"supported: {allowed}")

    def refusal(self, name: str, value: object, supported: str) -> InputError:
        """Build the error for an unsupported value."""
        return InputError(f"operator {self.kind}: {name} = {value!r} is not supported; {supported}")

    def _get(self, name: str) -> Value:
        self.read.add(name)
        if name not in self.values:
            raise InputError(f"operator {self.kind}: input {name} is missing")
        return self.values[name]


Operator = Callable[[Inputs], Result]
