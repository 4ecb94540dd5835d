"""The test under corruptions: deterministic by image, no part of other cells' keys, recorded with the test."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.corrupted import SEVERITIES, corrupt
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import NullObserver
from mobileone_core.training.recipe import Teacher
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.run import train_cell

DIGITS = open_splits(DataSpec(), None, 0).val.images[:12]
COLOURED = DIGITS.repeat(1, 3, 1, 1)


@pytest.mark.parametrize("kind", SEVERITIES)
@pytest.mark.parametrize("images", [DIGITS, COLOURED], ids=["grey", "coloured"])
def test_every_severity_is_further_from_the_clean_image(kind, images):
    corrupted = [corrupt(images, kind, severity) for severity in range(1, 6)]
    assert all((item.shape, item.dtype) == (images.shape, torch.uint8) for item in corrupted)
    distances = [(item.float() - images.float()).square().mean().item() for item in corrupted]
    assert distances[0] > 0
    assert all(one < other for one, other in pairwise(distances))


@pytest.mark.parametrize("side", [16, 24, 28, 48, 64])
def test_severities_of_pixelation_grow_at_every_resolution(side):
    """Shares of the side that divide it make even squares, others uneven ones, which change an image more."""
    images = open_splits(DataSpec(image_size=side), None, 0).val.images
    corrupted = [corrupt(images, "pixelation", severity) for severity in range(1, 6)]
    distances = [(item.float() - images.float()).square().mean().item() for item in corrupted]
    assert all(one < other for one, other in pairwise(distances))


@pytest.mark.parametrize("kind", SEVERITIES)
def test_a_corrupted_image_depends_on_its_number_and_on_no_random_state(kind):
    torch.manual_seed(1)
    first = corrupt(DIGITS, kind, 3)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first[:5], corrupt(DIGITS[:5], kind, 3))  # whatever else is in the set
    torch.manual_seed(1)
    corrupt(DIGITS, kind, 5)
    assert torch.equal(state, torch.get_rng_state())
    if kind in ("noise", "elastic"):
        twins = corrupt(DIGITS[:1].repeat(2, 1, 1, 1), kind, 3)
        assert not torch.equal(*twins)


def test_corruptions_are_torchvisions(tmp_path):
    """Against the functional forms, whose draws are made here."""
    image, side = DIGITS[0], DIGITS.shape[-1]
    torch.manual_seed(derive_seed(0, "corruption", "noise", 0))
    noisy = (image / 255 + 0.18 * torch.randn(image.shape)).clamp(0, 1)
    assert (corrupt(DIGITS, "noise", 3)[0].float() - 255 * noisy).abs().max() < 1.01
    assert torch.equal(corrupt(DIGITS, "blur", 2)[0], F.gaussian_blur(image, [7, 7], [0.03 * side]))
    assert torch.equal(corrupt(DIGITS, "contrast", 1)[0], F.adjust_contrast(image, 0.8))
    assert torch.equal(corrupt(DIGITS, "brightness", 5)[0], F.adjust_brightness(image, 0.3))
    F.to_pil_image(image).save(tmp_path / "image.jpg", quality=5)
    assert torch.equal(corrupt(DIGITS, "jpeg", 4)[0], F.pil_to_tensor(Image.open(tmp_path / "image.jpg")))
    assert corrupt(DIGITS, "pixelation", 5).unique_consecutive(dim=-1).shape[-1] <= side // 4
    either = [F.rotate(image, angle) for angle in (22, -22)]
    assert any(torch.equal(corrupt(DIGITS, "rotation", 3)[0], item) for item in either)


def spec(**recipe):
    recipe = recipe_preset("digits").changed(epochs=1, batch_size=256, ema_decay=0.0, **recipe)
    return CellSpec(ModelSpec.preset("tiny", in_channels=1, k=1).fitted_to(8), DataSpec(image_size=8), recipe)


def test_the_field_moves_no_other_key_and_teachers_are_not_tested_so():
    plain, corrupted = spec(), spec(corrupted_test=True)
    assert plain.key == spec(corrupted_test=False).key != corrupted.key
    assert "corrupted_test" not in plain.to_json()
    assert CellSpec.from_json(corrupted.to_json()) == corrupted
    student = replace(corrupted, recipe=corrupted.recipe.changed(teachers=(Teacher("small"),)))
    assert not teacher_cell(student, student.recipe.teachers[0]).recipe.corrupted_test


@pytest.mark.parametrize(
    "changes",
    [{"data": DataSpec("imagenet", 224, 1000, 3)}, {"data": DataSpec("scenes", 96, 10, 1), "task": "detection"}],
)
def test_only_classifiers_in_memory_are_tested_so(changes):
    cell = spec()
    augmentation = "none"
    recipe = cell.recipe.changed(augmentation=augmentation, corrupted_test=True)
    with pytest.raises(InputError, match="corrupted_test: True is not allowed; for float32 classifiers"):
        replace(cell, recipe=recipe, **changes)
    with pytest.raises(InputError, match="corrupted_test"):
        spec(corrupted_test=True).changed({"quantization.scheme": "full"})


@pytest.mark.slow
def test_a_cell_records_means_over_severities_and_tests_clean_images_as_without(tmp_path):
    metrics = {}
    for is_corrupted in (False, True):
        cell, directory = spec(corrupted_test=is_corrupted), tmp_path / str(is_corrupted)
        options = {"execution": Execution("cpu"), "data_root": None, "observer": NullObserver()}
        metrics[is_corrupted] = dict(train_cell(cell, directory=directory, **options).metrics)
    found = {name: value for name, value in metrics[True].items() if name.startswith("corrupted/")}
    kinds = [found.pop(f"corrupted/{kind}_top1") for kind in SEVERITIES]
    assert found == {"corrupted/top1": pytest.approx(sum(kinds) / 8)}
    assert all(0 <= value <= 1 for value in kinds)
    for name, value in metrics[False].items():
        if not name.startswith("time/"):
            assert metrics[True][name] == value
