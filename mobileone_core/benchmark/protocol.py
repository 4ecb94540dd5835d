"""How calls are timed side by side, as data. No torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require

LEAST_ROUNDS = 6  # the fewest whose order statistics hold the median with 95 %: 1 - 2 / 2**6 = 0.969
CONTROL_TOLERANCE = 0.03  # how far from 1 the ratio of a call to its own twin may be


@dataclass(frozen=True)
class Protocol:
    """warmup untimed calls of every level; then, in each round, every level in shuffled order: untimed calls, and a
    burst of timed ones. seed draws the orders. reload: every level is opened anew in each round, before its untimed
    calls. trim: so many of the fastest and of the slowest calls of each round are left out of low and average, the
    smallest and the mean of all others; 0 where neither is reported. Raises InputError."""

    rounds: int = 20
    burst: int = 4
    warmup: int = 3
    untimed: int = 1
    seed: int = 0
    trim: int = 0
    reload: bool = False

    def __post_init__(self) -> None:
        least = {"rounds": LEAST_ROUNDS, "burst": 1, "warmup": 0, "untimed": 0, "seed": 0, "trim": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
            require(fits, name, value, f"an integer of {lowest} or more")
        require(2 * self.trim < self.burst, "trim", self.trim, f"less than half the burst, which is {self.burst}")
        require(isinstance(self.reload, bool), "reload", self.reload, "True or False")

    @classmethod
    def preset(cls, name: str) -> "Protocol":
        """A protocol by name, interleaved or modelbench. Raises InputError."""
        require(name in PROTOCOLS, "protocol", name, f"one of {', '.join(PROTOCOLS)}")
        return PROTOCOLS[name]


PROTOCOLS: dict[str, Protocol] = {
    "interleaved": Protocol(),  # ours
    # The authors' app: 20 rounds of 50, the model reloaded, one call before each, 10 lowest and highest trimmed.
    "modelbench": Protocol(burst=50, warmup=0, trim=10, reload=True),
}
