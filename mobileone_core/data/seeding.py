"""Seeds for random draws, derived from what the draw is for: no global random state, so levels share draws."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose: derive_seed(cell_seed, "order", epoch)."""
    text = "\0".join(map(repr, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
