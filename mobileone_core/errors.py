"""Errors that a user can fix, each in one line: the field, its value, and what is allowed."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value that cannot be used; the message names the field, the value and what is allowed."""

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "InputError":
        """The error for a field's value, with what is allowed instead."""
        return cls(f"{field}: {value!r} is not allowed; {allowed}")


def require(holds: bool, field: str, value: object, allowed: str) -> None:
    """Raise InputError unless the condition holds."""
    if not holds:
        raise InputError.of(field, value, allowed)


def require_integer(field: str, value: object, at_least: int = 1, at_most: int | None = None) -> None:
    """Raise InputError unless value is an int (not a bool) within the bounds, both inclusive."""
    fits = isinstance(value, int) and not isinstance(value, bool)
    fits = fits and value >= at_least and (at_most is None or value <= at_most)  # type: ignore[operator]
    allowed = f"an integer of {at_least} or more" if at_most is None else f"an integer from {at_least} to {at_most}"
    require(fits, field, value, allowed)


def require_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise InputError unless value is one of the choices; the message lists them and names the one that is meant.

    Of more than 20 choices it names that one alone.
    """
    choices = tuple(choices)
    if isinstance(value, str) and value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, 1)
    allowed = [f"did you mean {close[0]!r}?"] if close else []
    if len(choices) <= 20 or not close:
        allowed = [f"one of {', '.join(choice or repr(choice) for choice in choices)}", *allowed]
    raise InputError.of(field, value, "; ".join(allowed))
