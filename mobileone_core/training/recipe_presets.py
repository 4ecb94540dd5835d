"""Recipes by name: the published ones, ours, and both fitted to a number of training images."""

import math
from dataclasses import replace

from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import require
from mobileone_core.training.head import HEADS
from mobileone_core.training.recipe import (
    PROGRESSIVE_VARIANTS,
    Augmentation,
    Recipe,
    corenet_scales,
    paper_phases,
    split_fitted,
)

FITTED = "fitted"  # the recipe that is fitted to the number of training images
# Scenes are new in every epoch; where their recipes are fitted to images in files, these are augmented.
FITTED_AUGMENTATIONS: dict[str, Augmentation] = {"scenes-ssdlite": "ssdlite", "scenes-deeplab": "scale_crop_flip"}

_MOBILEVIT = Recipe(
    optimizer="adamw", lr=9e-4, lr_end=1e-6, lr_by_epoch=True, warmup_steps=500, warmup_lr=9e-5, weight_decay=0.01,
    weight_decay_end=None, decay_norm_and_bias=True, label_smoothing=0.0, ema_decay=0.9995, precision="mixed",
)  # fmt: skip
_SCENES = Recipe(
    epochs=6, batch_size=16, optimizer="adamw", lr=4e-3, warmup_epochs=1, weight_decay=0.01, clip_norm=4.0,
    weight_decay_end=None, label_smoothing=0.0, ema_decay=0.99, augmentation="none",
)  # fmt: skip
RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        epochs=12, batch_size=64, lr=0.3, warmup_epochs=1, nesterov=True, ema_decay=0.95, augmentation="crop",
        clip_norm=1.0,  # without, wide, deep and many-branched networks fail on single seeds
    ),
    # Chosen on validation: studies/recipes/fashion.py.
    "fashion": Recipe(
        epochs=8, batch_size=256, lr=0.4, warmup_epochs=1, nesterov=True, clip_norm=1.0, ema_decay=0.99,
        augmentation="none",
    ),
    "cifar": Recipe(
        epochs=100, batch_size=128, warmup_epochs=5, nesterov=True, weight_decay=5e-4, weight_decay_end=None,
        ema_decay=0.999, augmentation="crop_flip",
    ),
    "paper": Recipe(),
    # Apple's configuration of S1 in CoreNet (2024, projects/mobileone): 75.3 % top-1, where the paper has 75.9.
    "corenet": Recipe(
        batch_size=512, lr=0.4, lr_end=2e-4, lr_by_epoch=True, warmup_steps=7500, warmup_lr=0.05, nesterov=True,
        weight_decay=4e-5, weight_decay_end=None, precision="mixed", scales=corenet_scales(),
    ),
    # Chosen on validation, for boxes and masks of scenes.
    "scenes-ssdlite": _SCENES,
    "scenes-deeplab": replace(_SCENES, epochs=8),
    # MobileViT's and MobileNetV2's configurations in CVNets (apple/ml-cvnets, config/), which the authors say they
    # followed.
    "mobilevit-ssdlite-coco": replace(_MOBILEVIT, epochs=200, batch_size=128, augmentation="ssd"),
    "mobilevit-deeplab-voc": replace(
        _MOBILEVIT, epochs=50, batch_size=64, head_lr_factor=10.0, augmentation="scale_crop_flip",
    ),
    "cvnets-deeplab-ade20k": Recipe(
        epochs=50, batch_size=16, lr=0.02, lr_end=1e-4, lr_by_epoch=True, weight_decay_end=None, label_smoothing=0.0,
        ema_decay=0.9999, augmentation="scale_crop_flip", precision="mixed",
    ),
}  # fmt: skip


def fitted_recipe(images: int, image_size: int, name: str = "digits", variant: str = "s0") -> Recipe:
    """A recipe fitted by rule to a number of training images and their size in pixels; `fitted` is that of digits.

    Batch: the largest power of two that leaves 16 steps per epoch or more, from 8 to 256. Epochs: those of 700 steps,
    from 20 to 200. EMA: over a twentieth of all steps. Warm-up: a tenth of the epochs for digits, else the same share
    of training as on ImageNet. Augmentation: shifts alone, because a mirrored image may be of another class; from 5,000
    images of 128 pixels on random crops and mirroring. All else is the recipe's. Recipes for boxes and masks keep their
    augmentation (those of scenes get random crops and mirroring) and have no larger batch than the whole one.
    """
    whole, has_head = recipe_preset(name, variant, image_size), name in HEADS
    batch_size = min(whole.batch_size if has_head else 256, max(8, 2 ** int(math.log2(max(1, images / 16)))))
    epochs = min(200, max(20, math.ceil(700 / max(1, images // batch_size))))
    recipe = replace(whole, batch_size=batch_size, warmup_epochs=0.0, epochs=epochs)
    steps = recipe.steps(images, image_size)
    published_on = name.rpartition("-")[2]  # CVNets' configurations end with their data set
    share = steps / whole.steps(DATA_SETS.get(published_on, DATA_SETS["imagenet"]).train_images, image_size)
    is_large = images >= 5000 and image_size >= 128
    augmentation: Augmentation = "resized_crop_flip" if is_large else "crop"
    if has_head:
        augmentation = FITTED_AUGMENTATIONS.get(name, whole.augmentation)
    return replace(
        recipe,
        warmup_epochs=epochs // 10 if name == "digits" else whole.warmup_epochs * epochs / whole.epochs,
        warmup_steps=round(whole.warmup_steps * share),
        ema_decay=round(1 - 20 / steps, 4),
        augmentation=augmentation,
    )


def recipe_preset(name: str, variant: str = "s0", image_size: int = 224) -> Recipe:
    """A recipe by name (digits, cifar, fashion, paper, corenet) for a variant and the data's resolution in pixels.

    paper is the ImageNet recipe (section 4.1); for s2 to s4 it adds AutoAugment with strength and resolution rising in
    phases (paper_phases). Momentum 0.9 and no decay on norm layers are from re-implementations. corenet is what Apple
    published in 2024, its resolutions scaled to the data's. cifar, fashion and digits are ours. NAME-N is NAME fitted
    to N training images, fitted-N that of digits (fitted_recipe). Raises InputError for another name.

    Example:
        >>> recipe_preset("cifar").epochs
        100
        >>> recipe_preset("corenet").scaled_batches(224)
        ((128, 1568), (192, 696), (224, 512), (288, 308), (320, 248))
    """
    base, images = split_fitted(name)
    if images and base in (FITTED, *RECIPES):
        return fitted_recipe(int(images), image_size, "digits" if base == FITTED else base, variant)
    require(name in RECIPES, "recipe", name, f"one of {', '.join(RECIPES)}, {FITTED}, or NAME-N, fitted to N images")
    has_phases = name == "paper" and variant in PROGRESSIVE_VARIANTS
    scales = corenet_scales(image_size) if RECIPES[name].scales else ()
    return replace(RECIPES[name], phases=paper_phases(image_size) if has_phases else (), scales=scales)
