"""How a network is trained, as data: no torch here."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mobileone_core.errors import require

Optimizer = Literal["sgd", "adamw"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
Augmentation = Literal["none", "crop", "crop_flip", "resized_crop_flip"]


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float; True and False are neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether a value is an integer of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class Phase:
    """A part of training with a resolution (pixels) and an AutoAugment strength (0: none, 1: as published).

    until is the fraction of training at which the phase ends; the last phase ends at 1.
    """

    until: float
    image_size: int
    autoaugment: float

    def __post_init__(self) -> None:
        fits = is_number(self.until) and 0 < self.until <= 1
        require(fits, "until", self.until, "a fraction of training above 0, 1 at most")
        require(is_count(self.image_size), "image_size", self.image_size, "an integer of 1 or more")
        fits = is_number(self.autoaugment) and 0 <= self.autoaugment <= 1
        require(fits, "autoaugment", self.autoaugment, "a strength from 0 to 1")


@dataclass(frozen=True)
class Recipe:
    """One way to train; the defaults are the paper's ImageNet recipe for S0 and S1 (section 4.1, appendix).

    Learning rate: linear warm-up, then cosine to 0. Weight decay: cosine from weight_decay to weight_decay_end,
    constant where that is None. momentum is AdamW's first beta where that is the optimizer. ema_decay 0 switches
    the averaged weights off, clip_norm 0 (the largest gradient norm) the clipping.
    """

    epochs: int = 300
    batch_size: int = 256
    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    weight_decay_end: float | None = 1e-5
    decay_norm_and_bias: bool = False
    label_smoothing: float = 0.1
    ema_decay: float = 0.9995
    clip_norm: float = 0.0
    precision: Precision = "32"
    augmentation: Augmentation = "resized_crop_flip"
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            require(is_count(value), name, value, "an integer of 1 or more")
        require(is_number(self.lr) and 0 < self.lr < math.inf, "lr", self.lr, "a number above 0")
        for name in ("warmup_epochs", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value < math.inf, name, value, "a number of 0 or more")
        for name in ("momentum", "label_smoothing", "ema_decay"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value < 1, name, value, "a number from 0 to below 1")
        end = self.weight_decay_end
        fits = end is None or (is_number(end) and 0 <= end < math.inf)
        require(fits, "weight_decay_end", end, "none, or a number of 0 or more")
        self._check_choices()
        self._check_phases()

    def _check_choices(self) -> None:
        for name, choices in (
            ("optimizer", Optimizer),
            ("precision", Precision),
            ("augmentation", Augmentation),
        ):
            value = getattr(self, name)
            require(value in get_args(choices), name, value, f"one of {', '.join(get_args(choices))}")
        allowed = f"at most epochs, which is {self.epochs}"
        require(self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, allowed)
        fits = self.optimizer == "sgd" and self.momentum > 0
        require(fits or not self.nesterov, "nesterov", self.nesterov, "it is for sgd with a momentum above 0")

    def _check_phases(self) -> None:
        ends = [phase.until for phase in self.phases]
        rising = ends == sorted(set(ends)) and (not ends or ends[-1] == 1)
        require(rising, "phases", ends, "rising ends, the last of them 1")


RECIPES: tuple[str, ...] = ("digits", "cifar", "paper")
PROGRESSIVE_VARIANTS = ("s2", "s3", "s4")

# Epochs 0-38, 39-113 and 114-299 of 300: re-implementations, and the jumps of figure 4. Resolutions: the same.
# Strengths: the paper says that they rise. MMPretrain uses 0.3, 0.7 and 1.0 (of RandAugment where the paper has
# AutoAugment); elsewhere the middle one is 0.6. Which of the two the authors used is not known.
PAPER_PHASES = (Phase(0.13, 160, 0.3), Phase(0.38, 192, 0.7), Phase(1.0, 224, 1.0))


def recipe_preset(name: str, variant: str = "s0") -> Recipe:
    """A recipe by name for a variant: paper (ImageNet), cifar, or digits for the embedded data.

    paper (section 4.1): s2 to s4 add AutoAugment with strength and resolution rising in phases (PAPER_PHASES).
    Momentum 0.9 and no decay on norm layers are from re-implementations. cifar and digits are ours.
    """
    require(name in RECIPES, "recipe", name, f"one of {', '.join(RECIPES)}")
    if name == "digits":
        return Recipe(
            epochs=12, batch_size=64, lr=0.3, warmup_epochs=1, nesterov=True, ema_decay=0.95, augmentation="crop"
        )
    if name == "cifar":
        return Recipe(
            epochs=100,
            batch_size=128,
            warmup_epochs=5,
            nesterov=True,
            weight_decay=5e-4,
            weight_decay_end=None,
            ema_decay=0.999,
            augmentation="crop_flip",
        )
    return Recipe(phases=PAPER_PHASES if variant in PROGRESSIVE_VARIANTS else ())
