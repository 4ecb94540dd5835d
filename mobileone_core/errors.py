"""Errors that a user can fix, each in one line: the field, its value, and what is allowed."""

import contextlib
import difflib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

LONGEST = 300  # characters that a message shows of a value


class InputError(ValueError):
    """A value that cannot be used; the message names the field, the value and what is allowed."""

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "InputError":
        """The error for a field's value, with what is allowed instead."""
        try:
            text = repr(value)
        except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
            text = f"this {type(value).__name__}"
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        return cls(f"{field}: {text} is not allowed; {allowed}")


@contextlib.contextmanager
def refusing(message: str) -> Iterator[None]:
    """Turn what broken content raises, which is nearly any exception, into an InputError of one line.

    A database that is locked or whose disk is full, and too little memory, are other errors, which pass.
    """
    try:
        yield
    except (InputError, MemoryError, sqlite3.OperationalError):
        raise
    except Exception as error:
        raise InputError(f"{message} ({reason_of(error) or type(error).__name__})") from error


def reason_of(error: Exception, longest: int = LONGEST) -> str:
    """The text of a library's error in one line, of so many characters at most; empty if it has none."""
    return " ".join(str(error).split())[:longest]


def require(holds: bool, field: str, value: object, allowed: str) -> None:
    """Raise InputError unless the condition holds."""
    if not holds:
        raise InputError.of(field, value, allowed)


def require_integer(field: str, value: object, at_least: int = 1, at_most: int | None = None) -> int:
    """Return an integer, NumPy's too, as an int. Raises InputError unless it is within the bounds, both inclusive.

    True and False are no integers.
    """
    number = plain(value)
    fits = isinstance(number, int) and not isinstance(number, bool)
    fits = fits and number >= at_least and (at_most is None or number <= at_most)
    allowed = f"an integer of {at_least} or more" if at_most is None else f"an integer from {at_least} to {at_most}"
    require(fits, field, value, allowed)
    return int(number)


def plain(value: Any) -> Any:
    """NumPy's scalars, and those in lists, tuples and mappings, as Python's: equal values then have equal keys."""
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    is_scalar = hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0
    return value.item() if is_scalar else value


def require_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise InputError unless value is one of the choices; the message lists them and names the one that is meant.

    Of more than 20 choices it names that one alone.
    """
    choices = tuple(choices)
    if isinstance(value, str) and value in choices:
        return
    begun = [choice for choice in choices if value and choice.startswith(str(value))]
    close = begun or difflib.get_close_matches(str(value), choices, 1)
    allowed = [f"did you mean {close[0]!r}?"] if close else []
    if len(choices) <= 20 or not close:
        allowed = [f"one of {', '.join(choice or repr(choice) for choice in choices) or 'none'}", *allowed]
    raise InputError.of(field, value, "; ".join(allowed))


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names of a list for a message, and how many follow."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
