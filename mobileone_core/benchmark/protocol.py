"""How calls are timed side by side, as data."""

from dataclasses import dataclass
from functools import partial

from mobileone_core.errors import require, require_integer
from mobileone_core.fields import check_options, option

LEAST_ROUNDS = 6  # fewest rounds whose range contains the median with 95 %: 1 - 2 / 2**6 = 0.969
CONTROL_TOLERANCE = 0.03  # largest distance from 1 of the ratio of a call to its second copy
_ROUNDS, _COUNT = (partial(require_integer, at_least=least) for least in (LEAST_ROUNDS, 0))


@dataclass(frozen=True)
class Protocol:
    """Rounds of bursts: in each, entries get untimed calls and a burst of timed ones in turn. Raises InputError."""

    rounds: int = option(20, "Rounds; every entry has one turn per round.", _ROUNDS)
    burst: int = option(4, "Timed calls per turn.", require_integer)
    warmup: int = option(3, "Untimed calls of every entry at the start.", _COUNT)
    untimed: int = option(1, "Untimed calls before the timed ones of a turn.", _COUNT)
    seed: int = option(0, "Seed of the order of turns.", _COUNT)
    trim: int = option(0, "Fastest and slowest calls of a turn, that many of each, that low and average drop.", _COUNT)
    reload: bool = option(False, "Load the network anew at every turn, before its untimed calls.")

    def __post_init__(self) -> None:
        check_options(self)
        require(2 * self.trim < self.burst, "trim", self.trim, f"less than half the burst, which is {self.burst}")


PROTOCOLS: dict[str, Protocol] = {
    "interleaved": Protocol(),  # ours
    # The authors' app: 20 rounds of 50, the model reloaded, one call before each, 10 lowest and highest trimmed.
    "modelbench": Protocol(burst=50, warmup=0, trim=10, reload=True),
}
