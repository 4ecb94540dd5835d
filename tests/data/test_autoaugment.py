"""AutoAugment's strength: 1 is torchvision's, 0 changes nothing, and in between magnitudes shrink."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mobileone_core.data.autoaugment import autoaugment, seeded

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(16, 240, (3, 24, 24), dtype=torch.uint8, generator=GENERATOR)  # no white: see Solarize


def image() -> Image.Image:
    return functional.to_pil_image(PIXELS)


def test_full_strength_equals_torchvision():
    theirs, changed = v2.AutoAugment(), 0
    for seed in range(300):
        with seeded(seed):
            expected = theirs(image())
        with seeded(seed):
            assert autoaugment(1.0)(image()).tobytes() == expected.tobytes()
        changed += expected.tobytes() != image().tobytes()
    assert changed > 100


def test_no_strength_is_the_identity():
    for seed in range(300):
        with seeded(seed):
            assert autoaugment(0.0)(image()).tobytes() == image().tobytes()


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_magnitudes_move_linearly_from_no_change(strength: float):
    for name, (table, _) in v2.AutoAugment._AUGMENTATION_SPACE.items():
        scaled = autoaugment(strength)._AUGMENTATION_SPACE[name][0](10, 32, 64)
        full = table(10, 32, 64)
        if full is None:
            assert scaled is None
            continue
        full = full.double()
        no_change = {"Posterize": 8.0, "Solarize": 1.0}.get(name, 0.0)
        tolerance = 0.5 if name == "Posterize" else 1e-5  # whole bits
        assert torch.allclose(scaled.double(), no_change + strength * (full - no_change), rtol=0, atol=tolerance)


def test_operations_without_magnitude_become_rarer():
    half = autoaugment(0.5)._policies
    for ours, theirs in zip(half, v2.AutoAugment()._policies, strict=True):
        for (name, chance, level), (their_name, their_chance, their_level) in zip(ours, theirs, strict=True):
            assert (name, level) == (their_name, their_level)
            assert chance == (their_chance / 2 if level is None else their_chance)


def test_seeded_puts_the_generator_back():
    before = torch.get_rng_state()
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    with pytest.raises(KeyError), seeded(2):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
