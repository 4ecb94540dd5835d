"""The protocol refuses what would measure nothing."""

import pytest

from mobileone_core.benchmark.protocol import LEAST_ROUNDS, PROTOCOLS, Protocol
from mobileone_core.benchmark.samples import interval_rank
from mobileone_core.benchmark.spec import changed_fields
from mobileone_core.errors import InputError


@pytest.mark.parametrize(
    ("field", "value"),
    [("rounds", 5), ("rounds", 20.0), ("burst", 0), ("burst", True), ("warmup", -1), ("untimed", -1), ("seed", "0")],
)
def test_refused_values(field, value):
    with pytest.raises(InputError, match=f"{field}: {value!r} is not allowed; an integer of"):
        Protocol(**{field: value})


def test_the_fewest_rounds_are_those_that_have_an_interval():
    assert interval_rank(Protocol(rounds=LEAST_ROUNDS).rounds) == 1
    with pytest.raises(InputError, match="rounds"):
        interval_rank(LEAST_ROUNDS - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trim": 2}, "trim: 2 is not allowed; less than half the burst, which is 4"),
        ({"trim": -1}, "trim: -1 is not allowed; an integer of 0 or more"),
        ({"reload": 1}, "reload: 1 is not allowed; True or False"),
    ],
)
def test_refused_trims_and_reloads(changes, message):
    with pytest.raises(InputError, match=message):
        Protocol(**changes)


def test_presets():
    assert PROTOCOLS["interleaved"] == Protocol()
    app = PROTOCOLS["modelbench"]
    assert (app.rounds, app.burst, app.untimed, app.trim, app.reload) == (20, 50, 1, 10, True)


def test_new_fields_move_no_key():
    """Keys equal those computed before trim and reload existed."""
    assert changed_fields(Protocol()) == {}
    assert changed_fields(Protocol(rounds=30)) == {"rounds": 30}
