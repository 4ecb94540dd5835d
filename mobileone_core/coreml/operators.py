"""The operators of a Core ML program by name: how their inputs are read, and what is known of them.

Semantics are those of the iOS 16 operator set (coremltools' MIL reference). An operator, an input or a mode that is
not known here is refused: what is not computed is not verified.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from mobileone_core.errors import InputError

Value = Tensor | str | list[str] | tuple["Value", ...]
Result = Tensor | tuple[Value, ...]


class Inputs:
    """The inputs of one operation by name; remembers which of them were read."""

    def __init__(self, kind: str, values: Mapping[str, Value], results: int = 1) -> None:
        self.kind, self.values, self.results = kind, values, results
        self.read: set[str] = set()

    def tensor(self, name: str) -> Tensor:
        found = self._get(name)
        if not isinstance(found, Tensor):
            raise self.refusal(name, found, "a tensor")
        return found

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.values else None

    def tensors(self, name: str) -> list[Tensor]:
        found = self._get(name)
        items = found if isinstance(found, tuple) else (found,)
        return [item for item in items if isinstance(item, Tensor)]

    def number(self, name: str, default: float | None = None) -> float:
        if default is not None and name not in self.values:
            return default
        return float(self.tensor(name).item())

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        if default is not None and name not in self.values:
            return list(default)
        return [int(item) for item in self.tensor(name).reshape(-1).tolist()]

    def flag(self, name: str, default: bool = False) -> bool:
        return default if name not in self.values else bool(self.tensor(name).item())

    def flags(self, name: str, count: int) -> list[bool]:
        return [False] * count if name not in self.values else [bool(item) for item in self.ints(name)]

    def text(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """One of the values that are known; any other is refused."""
        found = default if name not in self.values else self._get(name)
        if not isinstance(found, str) or found not in allowed:
            raise self.refusal(name, found, f"known here: {', '.join(allowed)}")
        return found

    def texts(self, name: str) -> list[str]:
        found = self._get(name)
        if not isinstance(found, list):
            raise self.refusal(name, found, "a list of texts")
        return found

    def only(self, name: str, allowed: float) -> None:
        """Refuse any value but one."""
        if self.number(name, allowed) != allowed:
            raise self.refusal(name, self.number(name), f"known here: {allowed}")

    def refusal(self, name: str, value: object, words: str) -> InputError:
        return InputError(f"operator {self.kind}: {name} = {value!r} is not known here; {words}")

    def _get(self, name: str) -> Value:
        self.read.add(name)
        if name not in self.values:
            raise InputError(f"operator {self.kind}: its input {name} is missing")
        return self.values[name]


Operator = Callable[[Inputs], Result]
OPERATORS: dict[str, Operator] = {}


def operator(*kinds: str) -> Callable[[Operator], Operator]:
    """Register a function as the meaning of operators."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(kinds, function))
        return function

    return register


def apply(inputs: Inputs) -> tuple[Value, ...]:
    """The results of one operation. Raises InputError for what is not known."""
    function = OPERATORS.get(inputs.kind)
    if function is None:
        raise InputError(f"operator {inputs.kind} is not known here; known: {', '.join(sorted(OPERATORS))}")
    result = function(inputs)
    unread = sorted(set(inputs.values) - inputs.read)
    if unread:
        raise InputError(f"operator {inputs.kind}: its input {', '.join(unread)} is not known here")
    return result if isinstance(result, tuple) else (result,)
