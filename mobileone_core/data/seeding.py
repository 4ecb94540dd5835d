"""Seeds derived from the purpose of a random draw: no global random state, so all levels share their draws."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. derive_seed(cell_seed, "order", epoch)."""
    text = "\0".join(map(repr, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
