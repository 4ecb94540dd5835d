"""Fields of a frozen spec, each with its default, help text and rule in one line."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from mobileone_core.errors import plain, require, require_choice

Rule = Callable[[str, Any], object]  # rule(field, value) raises InputError


def option(default: Any, text: str, rule: Rule | None = None) -> Any:
    """A dataclass field with the help text that the command line prints and the rule that check_options applies."""
    return dataclasses.field(default=default, metadata={"help": text, "rule": rule})


def help_texts(spec_type: type) -> dict[str, str]:
    """The help text of every field of a dataclass that has one, by the field's name."""
    return {item.name: item.metadata["help"] for item in dataclasses.fields(spec_type) if "help" in item.metadata}


def make_plain(spec: Any) -> None:
    """Replace NumPy's scalars in a frozen spec's fields by Python's."""
    for item in dataclasses.fields(spec):
        object.__setattr__(spec, item.name, plain(getattr(spec, item.name)))


def check_options(spec: Any) -> None:
    """Make the spec plain, then apply each field's rule.

    A field typed Literal must be one of its values, one typed bool True or False. Raises InputError for the first field
    that breaks its rule.
    """
    make_plain(spec)
    for item in dataclasses.fields(spec):
        value, rule = getattr(spec, item.name), item.metadata.get("rule")
        if rule is not None:
            rule(item.name, value)
        elif get_origin(item.type) is Literal:
            require_choice(item.name, value, get_args(item.type))
        elif item.type is bool:
            require(isinstance(value, bool), item.name, value, "True or False")


def changed_parts(parts: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of specs by name with other fields, named like model.k. Raises InputError for a name that none has."""
    names = [f"{part}.{item.name}" for part, spec in parts.items() for item in dataclasses.fields(spec)]
    for name in changes:
        require_choice("field", name, names)
    copies = dict(parts)
    for part, spec in parts.items():
        named = {name.partition(".")[2]: item for name, item in changes.items() if name.partition(".")[0] == part}
        if named:
            copies[part] = spec.changed(**named) if hasattr(spec, "changed") else dataclasses.replace(spec, **named)
    return copies


def as_tuples(value: Any) -> Any:
    """JSON content with every list as a tuple."""
    if isinstance(value, dict):
        return {name: as_tuples(item) for name, item in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def number_rule(fits: Callable[[float], bool], allowed: str, *, optional: bool = False) -> Rule:
    """A rule for finite numbers that fit, and for None if optional; True and False are no numbers."""

    def rule(field: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
        require((optional and value is None) or (is_number and fits(value)), field, value, allowed)

    return rule


POSITIVE = number_rule(lambda value: value > 0, "a number above 0")
NOT_NEGATIVE = number_rule(lambda value: value >= 0, "a number of 0 or more")
BELOW_ONE = number_rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")
FRACTION = number_rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")
