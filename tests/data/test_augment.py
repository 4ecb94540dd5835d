"""Batched augmentation against per-image oracles: slices, PIL-free resampling, torchvision's formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mobileone_core.data.augment import (
    BatchAugment,
    Normalize,
    crop_windows,
    draw_boxes,
    flip,
    resize,
    resized_crop,
)

IMAGES = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(size=st.integers(1, 9), padding=st.integers(0, 3), channels=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None)
def test_windows_are_slices_of_the_padded_image(size: int, padding: int, channels: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (3, channels, size, size), dtype=torch.uint8, generator=generator)
    windows = crop_windows(images, padding)
    padded = torch.zeros(3, channels, size + 2 * padding, size + 2 * padding, dtype=torch.uint8)
    padded[:, :, padding : padding + size, padding : padding + size] = images
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            assert torch.equal(windows[:, :, top, left], padded[:, :, top : top + size, left : left + size])


def test_crop_flip_equals_a_loop_over_images():
    augment = BatchAugment(IMAGES, "crop_flip")
    draws = augment.draw(seed=5, epoch=2)
    indices = torch.tensor([7, 3, 39, 0, 7])
    batch = augment(indices, draws)
    for image, index in zip(batch, indices.tolist(), strict=True):
        top, left = draws["offsets"][index].tolist()
        expected = F.pad(IMAGES[index], (2, 2, 2, 2))[:, top : top + 16, left : left + 16]
        assert torch.equal(image, expected.flip(-1) if draws["flips"][index] else expected)


def test_images_of_a_batch_have_their_own_draws():
    draws = BatchAugment(IMAGES, "crop_flip").draw(seed=0, epoch=0)
    assert len({tuple(offset) for offset in draws["offsets"].tolist()}) > 10
    assert 0 < draws["flips"].sum() < len(IMAGES)
    same = IMAGES[:1].expand(40, -1, -1, -1)
    for name in ("crop", "crop_flip", "resized_crop_flip"):
        augment = BatchAugment(same.contiguous(), name)
        batch = augment(torch.arange(40), augment.draw(seed=0, epoch=0))
        assert len({tuple(image.flatten().tolist()) for image in batch}) > 10


def test_offsets_cover_the_whole_padding():
    draws = BatchAugment(IMAGES[:1].expand(2000, -1, -1, -1), "crop").draw(seed=0, epoch=0)
    assert sorted(set(draws["offsets"].flatten().tolist())) == [0, 1, 2, 3, 4]


def test_none_returns_the_images():
    augment = BatchAugment(IMAGES, "none")
    assert torch.equal(augment(torch.tensor([4, 2]), augment.draw(0, 0)), IMAGES[[4, 2]])


def test_flip_mirrors_only_where_told():
    flips = torch.tensor([True, False, True])
    assert torch.equal(flip(IMAGES[:3], flips), torch.stack([IMAGES[0].flip(-1), IMAGES[1], IMAGES[2].flip(-1)]))


def test_whole_box_is_the_identity():
    images = IMAGES.double()
    whole = torch.tensor([[0, 0, 16, 16]]).expand(len(images), -1)
    assert torch.allclose(resized_crop(images, whole), images, rtol=0, atol=1e-9)


@given(data=st.data())
@settings(deadline=None)
def test_resized_crop_equals_slicing_and_interpolating(data: st.DataObject):
    height, width = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 16))
    top, left = data.draw(st.integers(0, 16 - height)), data.draw(st.integers(0, 16 - width))
    images = IMAGES[:2].double()
    ours = resized_crop(images, torch.tensor([[top, left, height, width]]).expand(2, -1))
    crop = images[:, :, top : top + height, left : left + width]
    theirs = F.interpolate(crop, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)


def test_boxes_fit_and_spread_as_random_resized_crop_does():
    size = 64
    top, left, height, width = draw_boxes(4000, size, torch.Generator().manual_seed(0)).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size).all()
    assert (left + width <= size).all()
    area, ratio = height * width / size**2, width / height
    assert 0.07 < area.min() < 0.1
    assert 0.93 < area.max() <= 1
    assert 0.7 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.43
    # torchvision's own draws: mean area 0.50 (uniform on 0.08 to 1 less what does not fit), symmetric log ratio
    assert math.isclose(area.mean().item(), _torchvision_mean_area(size), abs_tol=0.02)
    assert abs(ratio.log().mean().item()) < 0.02


def _torchvision_mean_area(size: int) -> float:
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(size)
    image = torch.zeros(3, size, size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [crop.make_params([image]) for _ in range(2000)]
    return sum(box["height"] * box["width"] for box in boxes) / len(boxes) / size**2


def test_normalize_takes_out_mean_and_spread():
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    ours = Normalize(mean, std, torch.device("cpu"))(IMAGES)
    expected = (IMAGES.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 24])
def test_resize(size: int):
    images = torch.full((2, 1, 16, 16), 3.0)
    assert torch.allclose(resize(images, size), torch.full((2, 1, size, size), 3.0))
