"""How a network is trained, as data."""

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mobileone_core.data.spec import Phase
from mobileone_core.errors import require, require_integer
from mobileone_core.fields import BELOW_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, check_options, number_rule, option
from mobileone_core.files import sha256
from mobileone_core.model.libraries import split_name
from mobileone_core.model.spec import PRESETS

DIGEST = "the first 16 hex digits of a file's SHA-256"
PROGRESSIVE_VARIANTS = ("s2", "s3", "s4")
PRETRAINING = "classification"  # init: the backbone's own classification cell, which is trained first
MIN_STEPS = 100
Optimizer = Literal["sgd", "adamw"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
RecipePrecision = Literal["32", "bf16-mixed", "16-mixed", "mixed"]
Augmentation = Literal["none", "crop", "crop_flip", "resized_crop_flip", "ssd", "ssdlite", "scale_crop_flip"]
_DECAY_END = number_rule(lambda value: value >= 0, "none, or a number of 0 or more", optional=True)
_COUNT = partial(require_integer, at_least=0)

# Epochs 0-38, 39-113 and 114-299 of 300: re-implementations, and the jumps of figure 4. Resolutions: the same.
# Strengths: the paper says that they rise. MMPretrain uses 0.3, 0.7 and 1.0 (of RandAugment where the paper has
# AutoAugment); elsewhere the middle one is 0.6. Which of the two the authors used is not known.
PAPER_PHASES = (Phase(0.13, 160, 0.3), Phase(0.38, 192, 0.7), Phase(1.0, 224, 1.0))


def paper_phases(image_size: int = 224) -> tuple[Phase, ...]:
    """PAPER_PHASES scaled to images of another size: multiples of 4 pixels, the last phase exactly image_size."""
    last = PAPER_PHASES[-1].image_size
    sizes = [max(4, 4 * round(phase.image_size * image_size / last / 4)) for phase in PAPER_PHASES[:-1]]
    pairs = zip(PAPER_PHASES, [*sizes, image_size], strict=True)
    return tuple(replace(phase, image_size=min(size, image_size)) for phase, size in pairs)


CORENET_SIZES = (128, 192, 224, 288, 320)  # five from 128 to 320 px, rounded to multiples of 32 as CoreNet does


def corenet_scales(image_size: int = 224) -> tuple[int, ...]:
    """CoreNet's resolutions scaled to images of another size: multiples of 4 pixels, and image_size itself."""
    sizes = (4 * max(1, round(size * image_size / 224 / 4)) for size in CORENET_SIZES if size != 224)
    return tuple(sorted({*sizes, image_size}))


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs a student imitates: a variant of ModelSpec.PRESETS, timm:NAME or torchvision:NAME.

    weights identifies the weight file by the first 16 hex digits of its SHA-256. A variant may leave it empty: it is
    then trained first, on the student's data, seed and recipe, without teachers. Raises InputError.
    """

    network: str
    weights: str = ""

    def __post_init__(self) -> None:
        is_network = isinstance(self.network, str) and (self.network in PRESETS or bool(self.library))
        allowed = f"a variant ({', '.join(PRESETS)}), timm:NAME or torchvision:NAME"
        require(is_network, "teachers", self.network, allowed)
        require(is_digest(self.weights) or self.weights == "", "teachers", self.weights, DIGEST)
        allowed = "it needs a file of weights: only a variant is trained first"
        require(is_digest(self.weights) or not self.library, "teachers", self.network, allowed)

    @property
    def library(self) -> str:
        """timm or torchvision; empty for a variant."""
        return split_name(self.network)[0]


def weights_digest(path: Path) -> str:
    """A weight file's identity in a recipe (Teacher.weights, init): the first 16 hex digits of its SHA-256."""
    return sha256(path)[:16]


def split_fitted(recipe: str) -> tuple[str, str]:
    """A recipe's name and the number of images it is fitted to: ("paper", "1210") of paper-1210, else ("paper", "")."""
    name, _, images = recipe.rpartition("-")
    return (name, images) if images.isdecimal() else (recipe, "")


def is_digest(value: object) -> bool:
    """Whether a value identifies a weight file."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16}", value) is not None


@dataclass(frozen=True)
class Recipe:
    """One way to train; the defaults are the paper's ImageNet recipe for S0 and S1 (section 4.1, appendix).

    With teachers the loss is hard_label_weight times the task's own loss plus the rest times the squared temperature
    times the divergence from the teachers' mean probabilities, both sides softened by the temperature (Hinton et
    al., 2015). hard_label_weight 0 and temperature 1 are MEAL V2 (2020) without its discriminator. Raises InputError.

    Example:
        >>> Recipe(epochs=90, ema_decay=0.0).lr
        0.1
    """

    epochs: int = option(300, "Passes over the training images.", require_integer)
    batch_size: int = option(256, "Images per step, over all processes of a cell.", require_integer)
    optimizer: Optimizer = option("sgd", "Optimizer of the network's weights.")
    lr: float = option(0.1, "Learning rate at its peak; linear warm-up before, a cosine to lr_end after.", POSITIVE)
    lr_end: float = option(0.0, "Learning rate at the end.", NOT_NEGATIVE)
    lr_by_epoch: bool = option(False, "Take the cosine epoch by epoch instead of step by step.")
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up.", NOT_NEGATIVE)
    warmup_steps: int = option(0, "Steps of linear warm-up, before a cosine that begins with training.", _COUNT)
    warmup_lr: float = option(0.0, "Learning rate at the first step of the warm-up.", NOT_NEGATIVE)
    momentum: float = option(0.9, "Momentum of sgd; first beta of adamw.", BELOW_ONE)
    nesterov: bool = option(False, "Nesterov's momentum, for sgd.")
    weight_decay: float = option(1e-4, "Weight decay at the start.", NOT_NEGATIVE)
    weight_decay_end: float | None = option(1e-5, "Weight decay at the end, by a cosine; None: constant.", _DECAY_END)
    decay_norm_and_bias: bool = option(False, "Decay normalization and biases too.")
    label_smoothing: float = option(0.1, "Share of the label spread over all classes, 0 to below 1.", BELOW_ONE)
    ema_decay: float = option(0.9995, "Decay per step of the averaged weights; 0 does not average.", BELOW_ONE)
    clip_norm: float = option(0.0, "Largest norm of the gradient; 0 does not clip.", NOT_NEGATIVE)
    precision: RecipePrecision = option(
        "32", "Arithmetic of training; mixed is 16-mixed with channels-last memory on a GPU, and 32 on a CPU."
    )
    corrupted_test: bool = option(False, "Test again under corruptions of the test images, for sets in memory.")
    augmentation: Augmentation = option("resized_crop_flip", "Augmentation of the training images.")
    phases: tuple[Phase, ...] = option((), "Progressive learning: none, or the paper's three resolutions, scaled.")
    scales: tuple[int, ...] = option(
        (), "Resolutions of which every step draws one; the batch has as many pixels as one of the images' own size."
    )
    teachers: tuple[Teacher, ...] = option(
        (),
        "A variant, which is trained first, or NAME=FILE with its weights, also timm:NAME=FILE and "
        "torchvision:NAME=FILE. Several are averaged.",
    )
    temperature: float = option(4.0, "Softens the logits of teachers and student.", POSITIVE)
    hard_label_weight: float = option(0.5, "Share of the labels in the loss; the rest is the teachers'.", FRACTION)
    init: str = option(
        "",
        "Weights to start from: a file of any layout, a finished run's id, or apple:s0 to apple:s4, the released ones. "
        "For another number of classes the head is new. classification: the backbone is first trained to classify the "
        "items of the scenes.",
        lambda field, value: require(is_digest(value) or value in ("", PRETRAINING), field, value, DIGEST),
    )
    head_lr_factor: float = option(1.0, "Learning rate of the head, as a multiple of the rest's.", POSITIVE)
    head: Literal["auto", "new"] = option(
        "auto", "With init: auto takes the file's head if it has as many classes as the data, new never does."
    )
    frozen_stages: int = option(0, "With init: stages that are not trained, and the stem with them.", _COUNT)
    frozen_norm: bool = option(False, "With init: BN of the backbone keeps its statistics, weights and biases.")

    def changed(self, **changes: Any) -> "Recipe":
        """A copy with other fields; teachers=() resets those of distillation, init="" those of init, phases scales."""
        resets = ["temperature", "hard_label_weight"] if changes.get("teachers") == () else []
        resets += ["frozen_stages", "frozen_norm", "head"] if changes.get("init") == "" else []
        resets += ["scales"] if changes.get("phases") else []
        changes = {name: getattr(Recipe, name) for name in resets} | changes
        return replace(self, **changes)

    def scaled_batches(self, image_size: int) -> tuple[tuple[int, int], ...]:
        """The scales with the images of a batch, for data of a size in pixels; multiples of 4, for CoreNet's 4 GPUs."""
        pixels = self.batch_size * image_size**2
        return tuple((size, 4 * max(1, pixels // size**2 // 4)) for size in self.scales)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Resolutions of the phases or scales, in pixels; empty if there are none."""
        return tuple(sorted({*self.scales, *(phase.image_size for phase in self.phases)}))

    def mean_batch(self, image_size: int) -> float:
        """Images per step, a mean over the scales."""
        batches = [images for _, images in self.scaled_batches(image_size)] or [self.batch_size]
        return sum(batches) / len(batches)

    def steps_per_epoch(self, images: int, image_size: int = 224) -> int:
        """Steps per epoch over a number of training images; an incomplete last batch is dropped, unless it is all.

        With scales a mean, for data of image_size pixels.
        """
        return max(1, int(images // self.mean_batch(image_size)))

    def steps(self, images: int, image_size: int = 224) -> int:
        """Steps in all over a number of training images; see steps_per_epoch."""
        return self.epochs * self.steps_per_epoch(images, image_size)

    def shortages(self, steps: int) -> list[str]:
        """Parts of the recipe that need more than a run's steps, a sentence part each; empty if they suffice."""
        horizon, warmup = 1 / (1 - self.ema_decay), steps * self.warmup_epochs / self.epochs
        needs = {
            f"fewer than {MIN_STEPS} steps teach a network little": steps < MIN_STEPS,
            f"ema_decay {self.ema_decay:g} averages over {horizon:,.0f} steps, more than a third": horizon > steps / 3,
            f"warmup_epochs {self.warmup_epochs:g} takes {warmup:,.0f} steps, more than half": warmup > steps / 2,
            f"warmup_steps {self.warmup_steps:,} are more than half": self.warmup_steps > steps / 2,
            f"{len(self.phases)} phases need an epoch each, of {self.epochs}": len(self.phases) > self.epochs,
        }
        return [f"{text} (of {steps:,} in all)" for text, is_short in needs.items() if is_short]

    def warnings(self, images: int, image_size: int = 224) -> list[str]:
        """Warnings about too few training images; empty if they suffice or their number is 0, for unknown."""
        larger = f"batch_size {self.batch_size} is larger than the {images} training images"
        return [larger] * (0 < images < self.batch_size) + self.shortages(self.steps(images, image_size)) * (images > 0)

    def __post_init__(self) -> None:
        check_options(self)
        require(
            not (self.warmup_steps and self.warmup_epochs), "warmup_steps", self.warmup_steps, "0 with warmup_epochs"
        )
        for name, limit in (("warmup_epochs", "epochs"), ("warmup_lr", "lr"), ("lr_end", "lr")):
            value, most = getattr(self, name), getattr(self, limit)
            require(value <= most, name, value, f"at most {limit}, which is {most:g}")
        fits = self.optimizer == "sgd" and self.momentum > 0
        require(fits or not self.nesterov, "nesterov", self.nesterov, "it is for sgd with a momentum above 0")
        require(bool(self.init) or not self.frozen_stages, "frozen_stages", self.frozen_stages, "0 without init")
        require(bool(self.init) or self.head == "auto", "head", self.head, "auto without init")
        require(bool(self.init) or not self.frozen_norm, "frozen_norm", self.frozen_norm, "False without init")
        fits = isinstance(self.phases, tuple) and all(isinstance(phase, Phase) for phase in self.phases)
        require(fits, "phases", self.phases, "a tuple of phases")
        require(isinstance(self.scales, tuple), "scales", self.scales, "a tuple of resolutions")
        for size in self.scales:
            require_integer("scales", size)
        fits = len(set(self.scales)) == len(self.scales) and not (self.scales and self.phases)
        require(fits, "scales", self.scales, "resolutions, each once, and none with phases")
        ends = [phase.until for phase in self.phases]
        rising = ends == sorted(set(ends)) and (not ends or ends[-1] == 1)
        require(rising, "phases", ends, "rising ends, the last of them 1")
        fits = isinstance(self.teachers, tuple) and all(isinstance(teacher, Teacher) for teacher in self.teachers)
        fits = fits and len(set(self.teachers)) == len(self.teachers)
        require(fits, "teachers", self.teachers, "a tuple of teachers, each once")
