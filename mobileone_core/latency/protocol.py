"""How calls are timed side by side, as data. No torch here."""

from dataclasses import dataclass

from mobileone_core.errors import require

LEAST_ROUNDS = 6  # the fewest whose order statistics hold the median with 95 %: 1 - 2 / 2**6 = 0.969
CONTROL_TOLERANCE = 0.03  # how far from 1 the ratio of a call to its own twin may be


@dataclass(frozen=True)
class Protocol:
    """warmup untimed calls of every level; then, in each round, every level in shuffled order: untimed calls, and a
    burst of timed ones. seed draws the orders. Raises InputError."""

    rounds: int = 20
    burst: int = 4
    warmup: int = 3
    untimed: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"rounds": LEAST_ROUNDS, "burst": 1, "warmup": 0, "untimed": 0, "seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
            require(fits, name, value, f"an integer of {lowest} or more")
