"""Checks of single values: what passes, and the one line that is raised otherwise."""

import re

import pytest

from mobileone_core.errors import InputError, require_choice, require_integer


@pytest.mark.parametrize("bounds", [{}, {"at_least": 0}, {"at_most": 3}, {"at_least": 3, "at_most": 3}])
def test_integers_within_the_bounds_pass(bounds):
    require_integer("k", 3, **bounds)


@pytest.mark.parametrize(
    ("value", "bounds", "allowed"),
    [
        (0, {}, "an integer of 1 or more"),
        (True, {}, "an integer of 1 or more"),
        (1.0, {}, "an integer of 1 or more"),
        ("1", {}, "an integer of 1 or more"),
        (None, {}, "an integer of 1 or more"),
        (-1, {"at_least": 0}, "an integer of 0 or more"),
        (17, {"at_most": 16}, "an integer from 1 to 16"),
        (0, {"at_most": 16}, "an integer from 1 to 16"),
    ],
)
def test_other_values_are_refused(value, bounds, allowed):
    with pytest.raises(InputError, match=f"^{re.escape(f'k: {value!r} is not allowed; {allowed}')}$"):
        require_integer("k", value, **bounds)


def test_a_choice_must_be_in_the_list():
    require_choice("form", "train", ["train", "deployed"])
    with pytest.raises(InputError, match=r"^form: 'fused' is not allowed; one of train, deployed$"):
        require_choice("form", "fused", (name for name in ("train", "deployed")))
    with pytest.raises(InputError, match=r"^setting: 'x' is not allowed; one of none$"):
        require_choice("setting", "x", ())


def test_the_choice_that_begins_like_the_value_is_meant():
    with pytest.raises(InputError, match=r"; did you mean 'recipe.ema_decay'\?$"):
        require_choice("field", "recipe.ema", ("recipe.head", "recipe.ema_decay"))
