"""AutoAugment with a strength, and seeded random draws for torchvision's transforms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import torch
from torch import Tensor
from torchvision.transforms import v2

Magnitudes = Callable[[int, int, int], Tensor | None]


@lru_cache(maxsize=8)
def autoaugment(strength: float) -> v2.AutoAugment:
    """Return torchvision's AutoAugment (ImageNet policy, arXiv 1805.09501) at a strength in [0, 1]; 1 is as published.

    A magnitude m becomes (1 - strength) m0 + strength m, where m0, the first entry of its table, changes nothing.
    Operations without a magnitude (AutoContrast, Equalize, Invert) occur with strength times their probability.
    """
    transform = v2.AutoAugment()
    transform._AUGMENTATION_SPACE = {
        name: (partial(_scaled, table, strength, name == "Posterize"), signed)
        for name, (table, signed) in transform._AUGMENTATION_SPACE.items()
    }
    transform._policies = [
        tuple((name, chance if level is not None else strength * chance, level) for name, chance, level in pair)
        for pair in transform._policies
    ]
    return transform


def _scaled(table: Magnitudes, strength: float, whole: bool, *shape: int) -> Tensor | None:
    magnitudes = table(*shape)
    if magnitudes is None:
        return None
    scaled = (1 - strength) * magnitudes[0] + strength * magnitudes
    return scaled.round() if whole else scaled


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the context, and restore its state afterwards."""
    with torch.random.fork_rng(devices=(), device_type="cpu"):
        torch.default_generator.manual_seed(seed)
        yield
