"""What a person did wrong, said in one line."""


class InputError(ValueError):
    """A value that cannot be used; the message names the field, the value and what is allowed."""

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "InputError":
        return cls(f"{field}: {value!r} is not allowed; {allowed}")


def require(holds: bool, field: str, value: object, allowed: str) -> None:
    """Raise InputError unless the condition holds."""
    if not holds:
        raise InputError.of(field, value, allowed)
