"""Loaders of sets in memory: reproducible, independent of the global generator, right in shape and scale."""

from dataclasses import dataclass

import pytest
import torch

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders, open_test
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError

DIGITS = DataSpec()


@dataclass(frozen=True)
class Phase:
    until: float
    image_size: int
    autoaugment: float


PHASES = (Phase(0.5, 16, 0.0), Phase(1.0, 32, 0.5))


def digits(seed: int = 0, augmentation: str = "crop_flip", batch_size: int = 64, **changes: object) -> Loaders:
    return open_loaders(DIGITS, None, seed, LoaderOptions(batch_size, augmentation, **changes))


def epoch(loaders: Loaders, number: int, progress: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    loaders.train.set_epoch(number, progress)
    batches = list(loaders.train)
    assert len(batches) == len(loaders.train)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop_flip", "resized_crop_flip"])
def test_an_epoch_depends_on_seed_and_number_alone(augmentation: str):
    loaders = digits(0, augmentation)
    first, second = epoch(loaders, 0), epoch(loaders, 1)
    assert not same(first, second)
    assert same(epoch(loaders, 0), first)
    assert same(epoch(digits(0, augmentation), 1), second)
    assert not same(epoch(digits(1, augmentation), 0), first)


def test_the_global_generator_is_neither_read_nor_changed():
    phases = (Phase(1.0, 32, 0.5),)
    before = torch.get_rng_state()
    first = epoch(digits(phases=phases), 0)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert same(epoch(digits(phases=phases), 0), first)


def test_shapes_and_types():
    loaders = digits()
    images, labels = next(iter(loaders.train))
    assert images.shape == (64, 1, 32, 32)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.is_contiguous()
    assert (len(loaders.train), len(loaders.val), len(loaders.test)) == (1210 // 64, 3, 8)


def test_training_visits_each_image_at_most_once():
    loaders = digits(augmentation="none", batch_size=50)
    images, _ = epoch(loaders, 3)
    assert len(images) == 1200 == len(torch.unique(images.flatten(1), dim=0))


def test_evaluation_drops_nothing_and_keeps_its_order():
    loaders, splits = digits(seed=2), open_splits(DIGITS, None, 2)
    for loader, split in ((loaders.val, splits.val), (loaders.test, splits.test())):
        assert torch.equal(torch.cat([labels for _, labels in loader]), split.labels)
        images = torch.cat([images for images, _ in loader])
        entry = DATA_SETS["digits"]
        expected = (split.images / 255 - entry.mean[0]) / entry.std[0]
        assert torch.allclose(images, expected, rtol=0, atol=1e-5)
        assert torch.equal(torch.cat([images for images, _ in loader]), images)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_test_set_alone_is_that_of_every_seed(seed: int):
    alone = open_test(DIGITS, None, LoaderOptions(64, "none"))
    assert all(map(same, alone, digits(seed).test))
    assert len(alone) == len(digits(seed).test)


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_statistics_are_those_of_all_but_the_test_images_as_they_are_read(seed: int):
    splits = open_splits(DIGITS, None, seed)
    pixels = torch.cat([splits.train.images, splits.val.images]).double() / 255
    assert pixels.shape == (1346, 1, 32, 32)
    assert DATA_SETS["digits"].mean[0] == pytest.approx(pixels.mean().item(), abs=5e-5)
    assert DATA_SETS["digits"].std[0] == pytest.approx(pixels.std().item(), abs=5e-5)


def test_a_set_smaller_than_a_batch_is_one_batch():
    loaders = digits(batch_size=5000)
    images, _ = epoch(loaders, 0)
    assert len(images) == 1210
    assert len(loaders.train) == 1


def test_phases_switch_resolution_for_training_only():
    loaders = digits(phases=PHASES)
    sizes = []
    for number, progress in enumerate((0.0, 0.49, 0.5, 0.99)):
        loaders.train.set_epoch(number, progress)
        sizes.append(next(iter(loaders.train))[0].shape[-1])
    assert sizes == [16, 16, 32, 32]
    assert next(iter(loaders.val))[0].shape[-1] == 32


def test_autoaugment_in_memory_is_reproducible_and_per_image():
    strong = digits(augmentation="none", phases=(Phase(1.0, 32, 1.0),))
    plain = epoch(digits(augmentation="none"), 0)
    augmented = epoch(strong, 0)
    assert torch.equal(augmented[1], plain[1])
    changed = (augmented[0] != plain[0]).flatten(1).any(1)
    assert 0.5 < changed.float().mean() < 1
    assert same(epoch(strong, 0), augmented)


def test_another_image_size():
    spec = resolve_data("digits", None, image_size=16)
    images, _ = next(iter(open_loaders(spec, None, 0, LoaderOptions(8, "crop")).train))
    assert images.shape == (8, 1, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not allowed"),
        ({"augmentation": "mixup"}, "augmentation: 'mixup' is not allowed; one of none, crop"),
        ({"workers": -1}, "workers: -1 is not allowed"),
        ({"crop": 0.0}, "crop: 0.0 is not allowed; a share above 0"),
        ({"crop": 1.01}, "crop: 1.01 is not allowed"),
        ({"crop": float("nan")}, "crop: nan is not allowed"),
        ({"interpolation": "nearest"}, "interpolation: 'nearest' is not allowed; one of bilinear, bicubic"),
    ],
)
def test_bad_options(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        LoaderOptions(**{"batch_size": 8, "augmentation": "none", **changes})
