"""Values that a recipe refuses, and the presets."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.training.execution import Execution
from mobileone_core.training.head import head_preset
from mobileone_core.training.recipe import Phase, Recipe, Teacher, paper_phases
from mobileone_core.training.recipe_presets import RECIPES, recipe_preset

REFUSED = [
    ("epochs", 0),
    ("epochs", -3),
    ("epochs", 2.5),
    ("epochs", True),
    ("epochs", "3"),
    ("batch_size", 0),
    ("batch_size", True),
    ("lr", 0.0),
    ("lr", math.nan),
    ("lr", math.inf),
    ("lr", "0.1"),
    ("lr", True),
    ("lr", None),
    ("warmup_epochs", -1),
    ("warmup_epochs", 301),
    ("warmup_epochs", "1"),
    ("momentum", 1.0),
    ("momentum", False),
    ("label_smoothing", -0.1),
    ("ema_decay", 1.0),
    ("weight_decay", -1e-4),
    ("weight_decay", math.nan),
    ("weight_decay_end", -1e-4),
    ("weight_decay_end", "0"),
    ("clip_norm", math.inf),
    ("optimizer", "adam"),
    ("precision", "16"),
    ("augmentation", "mixup"),
    ("temperature", 0.0),
    ("temperature", math.inf),
    ("temperature", True),
    ("hard_label_weight", -0.1),
    ("hard_label_weight", 1.1),
    ("hard_label_weight", "1"),
    ("teachers", ("s0",)),
    ("teachers", [Teacher("s0")]),
    ("teachers", (Teacher("s0"), Teacher("s0"))),
]

HEX = "0123456789abcdef"
NO_TEACHERS = [
    ("s9", "", "s9"),
    ("", "", ""),
    (None, "", None),
    ("keras:ResNet50", HEX, "keras:ResNet50"),
    ("timm:", HEX, "timm:"),
    ("timm", HEX, "timm"),
    ("timm:resnet18", "", "timm:resnet18"),
    ("torchvision:resnet18", "", "torchvision:resnet18"),
    ("s0", HEX[:-1], HEX[:-1]),
    ("s0", HEX.upper(), HEX.upper()),
    ("s0", HEX + "\n", HEX + "\n"),
    ("s0", None, None),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_refused_values_are_named(name, value):
    with pytest.raises(InputError) as caught:
        replace(Recipe(), **{name: value})
    assert str(caught.value).startswith(f"{name}: {value!r} is not allowed; ")


@pytest.mark.parametrize(("network", "weights", "value"), NO_TEACHERS)
def test_a_teacher_refuses_what_it_cannot_be(network, weights, value):
    with pytest.raises(InputError) as caught:
        Teacher(network, weights)
    assert str(caught.value).startswith(f"teachers: {value!r} is not allowed; ")


@pytest.mark.parametrize(
    ("network", "weights", "library"),
    [
        ("s0", "", ""),
        ("small", HEX, ""),
        ("timm:resnet18.a1_in1k", HEX, "timm"),
        ("torchvision:resnet18", HEX, "torchvision"),
    ],
)
def test_where_a_teacher_comes_from(network, weights, library):
    assert Teacher(network, weights).library == library


@pytest.mark.parametrize("changes", [{"momentum": 0.0}, {"optimizer": "adamw"}])
def test_nesterov_needs_sgd_with_momentum(changes):
    assert Recipe(nesterov=True).nesterov
    with pytest.raises(InputError, match="nesterov: True"):
        Recipe(nesterov=True, **changes)


@pytest.mark.parametrize("ends", [(0.5,), (0.5, 0.5, 1.0), (0.7, 0.3, 1.0)])
def test_phases_must_rise_to_the_end(ends):
    with pytest.raises(InputError, match="phases"):
        Recipe(phases=tuple(Phase(end, 32, 0.0) for end in ends))


NO_PHASES = [
    *[(0.0, 32, 0.0), (1.1, 32, 0.0), (1.0, 0, 0.0), (1.0, 32, 1.5)],
    *[("1", 32, 0.0), (True, 32, 0.0), (1.0, 32.5, 0.0), (1.0, "32", 0.0), (1.0, 32, "0"), (1.0, 32, True)],
]


@pytest.mark.parametrize("values", NO_PHASES)
def test_a_phase_refuses_what_it_cannot_be(values):
    with pytest.raises(InputError):
        Phase(*values)


@pytest.mark.parametrize("changes", [{"threads": 0}, {"device": "gpu"}, {"device": "cuda:x"}, {"device": "cpu:1"}])
def test_execution_refuses(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        Execution(**changes)


def test_the_papers_recipe_is_pinned():
    """Section 4.1: 300 epochs, batch 256, SGD, lr 0.1, decay 1e-4 to 1e-5, smoothing 0.1, EMA 0.9995."""
    assert recipe_preset("paper", "s1") == Recipe(
        epochs=300,
        batch_size=256,
        optimizer="sgd",
        lr=0.1,
        warmup_epochs=0.0,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        weight_decay_end=1e-5,
        decay_norm_and_bias=False,
        label_smoothing=0.1,
        ema_decay=0.9995,
        clip_norm=0.0,
        precision="32",
        augmentation="resized_crop_flip",
        phases=(),
    )


@pytest.mark.parametrize("variant", ["s2", "s3", "s4"])
def test_the_papers_phases(variant):
    recipe = recipe_preset("paper", variant)
    assert [phase.image_size for phase in recipe.phases] == [160, 192, 224]
    assert [phase.autoaugment for phase in recipe.phases] == [0.3, 0.7, 1.0]
    starts = [next(e for e in range(300) if e / 300 >= phase.until) for phase in recipe.phases[:-1]]
    assert starts == [39, 114]
    assert replace(recipe, phases=()) == recipe_preset("paper", "s0")


def test_the_papers_phases_at_the_papers_resolution():
    assert paper_phases() == paper_phases(224) == recipe_preset("paper", "s2").phases
    assert paper_phases() == (Phase(0.13, 160, 0.3), Phase(0.38, 192, 0.7), Phase(1.0, 224, 1.0))


@pytest.mark.parametrize(
    ("image_size", "sizes"), [(32, [24, 28, 32]), (64, [44, 56, 64]), (256, [184, 220, 256]), (8, [4, 8, 8])]
)
def test_phases_fit_the_data(image_size, sizes):
    phases = recipe_preset("paper", "s3", image_size).phases
    assert [phase.image_size for phase in phases] == sizes
    assert [replace(phase, image_size=224) for phase in phases] == [replace(p, image_size=224) for p in paper_phases()]


@given(st.integers(1, 1000))
def test_phases_rise_to_the_images_own_size_and_stay_near_the_papers_fractions(image_size):
    sizes = [phase.image_size for phase in paper_phases(image_size)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == image_size
    for size, fraction in zip(sizes, (160 / 224, 192 / 224), strict=False):
        assert size == image_size or size % 4 == 0
        assert abs(size - fraction * image_size) <= max(2, 4 - fraction * image_size)


@pytest.mark.parametrize("variant", ["tiny", "s0", "s1"])
def test_small_variants_have_no_phases(variant):
    assert all(recipe_preset(name, variant).phases == () for name in RECIPES)


def test_unknown_recipe():
    with pytest.raises(
        InputError, match=r"recipe: 'imagenet' is not allowed; one of digits, fashion, cifar, paper, .*fitted"
    ):
        recipe_preset("imagenet")


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "decay"),
    [(432, 16, 26, 0.9715), (40, 8, 140, 0.9714), (8522, 256, 22, 0.9725), (10**6, 256, 20, 0.9997), (3, 8, 200, 0.9)],
)
def test_fitted_has_enough_steps_for_any_number_of_images(images, batch, epochs, decay):
    recipe = recipe_preset(f"fitted-{images}", image_size=64)
    assert (recipe.batch_size, recipe.epochs, recipe.ema_decay) == (batch, epochs, decay)
    assert (recipe.augmentation, recipe.clip_norm) == ("crop", 1.0)
    steps = recipe.steps_per_epoch(images) * epochs
    assert recipe.shortages(steps) == []
    assert images < 50 or recipe.steps_per_epoch(images) >= 16


def test_fitted_mirrors_large_images_alone():
    assert recipe_preset("fitted-5000", image_size=128).augmentation == "resized_crop_flip"
    assert recipe_preset("fitted-4999", image_size=128).augmentation == "crop"


@pytest.mark.parametrize(
    ("fields", "steps", "text"),
    [
        ({}, 300, "ema_decay 0.9995 averages over 2,000 steps"),
        ({"ema_decay": 0.0}, 99, "fewer than 100 steps"),
        ({"ema_decay": 0.0, "epochs": 4, "warmup_epochs": 3}, 400, "warmup_epochs 3 takes 300 steps"),
        ({"ema_decay": 0.0, "epochs": 2, "phases": paper_phases()}, 400, "3 phases need an epoch each, of 2"),
    ],
)
def test_what_lacks_steps_is_named(fields, steps, text):
    [shortage] = replace(recipe_preset("paper"), **fields).shortages(steps)
    assert text in shortage


def test_corenet_is_apples_configuration_to_the_letter():
    """projects/mobileone/classification/mobileone_s1_in1k.yaml; batches per GPU of four by its sampler's rule."""
    recipe = recipe_preset("corenet", "s1")
    published = {
        "epochs": 300, "batch_size": 4 * 128, "optimizer": "sgd", "momentum": 0.9, "nesterov": True,
        "lr": 0.4, "warmup_lr": 0.05, "warmup_steps": 7500, "lr_end": 2e-4, "lr_by_epoch": True, "warmup_epochs": 0.0,
        "weight_decay": 4e-5, "weight_decay_end": None, "decay_norm_and_bias": False, "label_smoothing": 0.1,
        "ema_decay": 1 - 5e-4, "precision": "mixed", "augmentation": "resized_crop_flip", "clip_norm": 0.0,
    }  # fmt: skip
    assert {name: getattr(recipe, name) for name in published} == published
    sizes = sorted({int(size + 16) // 32 * 32 for size in (128, 176, 224, 272, 320)})
    assert recipe.scaled_batches(224) == tuple((size, 4 * int(128 * 224**2 / size**2)) for size in sizes)
    assert len(sizes) == 5
    pixels = [size**2 * images for size, images in recipe.scaled_batches(224)]
    assert max(pixels) / min(pixels) < 1.03


@pytest.mark.parametrize(
    ("name", "augmentation"),
    [("scenes-ssdlite", "ssdlite"), ("scenes-deeplab", "scale_crop_flip"), ("mobilevit-ssdlite-coco", "ssd")],
)
def test_recipes_of_boxes_and_masks_are_fitted_with_their_heads(name, augmentation):
    whole, fitted = recipe_preset(name), recipe_preset(f"{name}-144")
    assert (fitted.batch_size, fitted.epochs, fitted.augmentation) == (8, 39, augmentation)
    assert recipe_preset(f"{name}-100000").batch_size == whole.batch_size
    assert fitted.shortages(fitted.steps(144)) == []
    assert head_preset(f"{name}-144") == head_preset(name) != head_preset("fitted-144")


@given(st.sampled_from(["paper", "corenet"]), st.integers(1, 100_000), st.sampled_from([8, 32, 64, 224]))
def test_a_published_recipe_is_fitted_in_size_alone(name, images, image_size):
    whole, fitted = recipe_preset(name, "s0", image_size), recipe_preset(f"{name}-{images}", "s0", image_size)
    ours = recipe_preset(f"fitted-{images}", "s0", image_size)
    changed = {key for key, value in vars(fitted).items() if value != getattr(whole, key)}
    assert changed <= {"epochs", "batch_size", "warmup_steps", "ema_decay", "augmentation"}
    assert (fitted.epochs, fitted.batch_size, fitted.augmentation) == (ours.epochs, ours.batch_size, ours.augmentation)
    share = whole.warmup_steps / whole.steps(1_281_167, image_size)
    assert fitted.warmup_steps == round(share * fitted.steps(images, image_size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": (32, 32)}, "scales: .32, 32. is not allowed; resolutions, each once, and none with phases"),
        ({"scales": (32, 0)}, "scales: 0 is not allowed; an integer of 1 or more"),
        ({"scales": (32,), "phases": paper_phases(32)}, "scales: "),
        ({"warmup_steps": -1}, "warmup_steps: -1 is not allowed"),
    ],
)
def test_scales_and_warm_up_that_cannot_be_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        Recipe(**changes)
