"""The protocol refuses what would measure nothing."""

import pytest

from mobileone_core.errors import InputError
from mobileone_core.latency.protocol import LEAST_ROUNDS, Protocol
from mobileone_core.latency.samples import interval_rank


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
