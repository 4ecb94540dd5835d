"""The embedded data: scikit-learn's digits, 1,797 real scans of 8 x 8 pixels."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def load_scans() -> tuple[Tensor, Tensor]:
    """All scans, uint8 (1797, 1, 8, 8), and their labels, int64 (1797,)."""
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    scans = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)  # stored as 0 to 16
    return scans.unsqueeze(1), torch.from_numpy(digits.target).long()
