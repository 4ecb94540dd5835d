"""How a network is trained, as data: no torch here."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mobileone_core.errors import require
from mobileone_core.model.spec import PRESETS
from mobileone_core.training.phases import PROGRESSIVE_VARIANTS, Phase, is_count, is_number, paper_phases

__all__ = [
    "RECIPES",
    "Augmentation",
    "Optimizer",
    "Phase",
    "Precision",
    "Recipe",
    "Teacher",
    "paper_phases",
    "recipe_preset",
]

LIBRARIES = ("timm", "torchvision")
Optimizer = Literal["sgd", "adamw"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
Augmentation = Literal["none", "crop", "crop_flip", "resized_crop_flip"]


@dataclass(frozen=True)
class Teacher:
    """Whose outputs a student imitates: a variant of ModelSpec.PRESETS, timm:NAME or torchvision:NAME.

    weights names the file that holds its weights, by the first 16 hex digits of the SHA-256. A variant may leave it
    empty: it is then trained first, on the student's data, seed and recipe, without teachers.
    """

    network: str
    weights: str = ""

    def __post_init__(self) -> None:
        known = isinstance(self.network, str) and (self.network in PRESETS or bool(self.library and self.name))
        allowed = f"a variant ({', '.join(PRESETS)}), timm:NAME or torchvision:NAME"
        require(known, "teachers", self.network, allowed)
        named = isinstance(self.weights, str) and re.fullmatch(r"[0-9a-f]{16}", self.weights) is not None
        require(named or self.weights == "", "teachers", self.weights, "the first 16 hex digits of a file's SHA-256")
        allowed = "it needs a file of weights: only a variant is trained first"
        require(named or not self.library, "teachers", self.network, allowed)

    @property
    def library(self) -> str:
        """timm or torchvision; empty for a variant of ours."""
        library, colon, _ = self.network.partition(":")
        return library if colon and library in LIBRARIES else ""

    @property
    def name(self) -> str:
        """The network's name in its library, or the variant."""
        return self.network.partition(":")[2] if self.library else self.network


@dataclass(frozen=True)
class Recipe:
    """One way to train; the defaults are the paper's ImageNet recipe for S0 and S1 (section 4.1, appendix).

    Learning rate: linear warm-up, then cosine to 0. Weight decay: cosine from weight_decay to weight_decay_end,
    constant where that is None. momentum is AdamW's first beta where that is the optimizer. ema_decay 0 switches
    the averaged weights off, clip_norm 0 (the largest gradient norm) the clipping.

    With teachers the loss is hard_label_weight times the cross entropy plus the rest times the squared temperature
    times the divergence from the teachers' mean probabilities, both sides softened by the temperature (Hinton et
    al., 2015). hard_label_weight 0 and temperature 1 are MEAL V2 (2020) without its discriminator.
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
    teachers: tuple[Teacher, ...] = ()
    temperature: float = 4.0
    hard_label_weight: float = 0.5

    def changed(self, **changes: Any) -> "Recipe":  # noqa: ANN401
        """This recipe with other fields; without teachers the fields of distillation go back to their defaults."""
        if changes.get("teachers") == ():
            names = ("temperature", "hard_label_weight")
            changes = {**{name: Recipe.__dataclass_fields__[name].default for name in names}, **changes}
        return replace(self, **changes)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            require(is_count(value), name, value, "an integer of 1 or more")
        for name in ("lr", "temperature"):
            value = getattr(self, name)
            require(is_number(value) and 0 < value < math.inf, name, value, "a number above 0")
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
        self._check_teachers()

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

    def _check_teachers(self) -> None:
        weight, names = self.hard_label_weight, self.teachers
        require(is_number(weight) and 0 <= weight <= 1, "hard_label_weight", weight, "a number from 0 to 1")
        fits = isinstance(names, tuple) and all(isinstance(teacher, Teacher) for teacher in names)
        require(fits and len(set(names)) == len(names), "teachers", names, "a tuple of teachers, each once")


RECIPES: tuple[str, ...] = ("digits", "cifar", "paper")


def recipe_preset(name: str, variant: str = "s0", image_size: int = 224) -> Recipe:
    """A recipe by name for a variant and the data's resolution: paper (ImageNet), cifar, or digits (embedded).

    paper (section 4.1): s2 to s4 add AutoAugment with strength and resolution rising in phases (paper_phases).
    Momentum 0.9 and no decay on norm layers are from re-implementations. cifar and digits are ours.
    """
    require(name in RECIPES, "recipe", name, f"one of {', '.join(RECIPES)}")
    if name == "digits":
        return Recipe(
            epochs=12,
            batch_size=64,
            lr=0.3,
            warmup_epochs=1,
            nesterov=True,
            clip_norm=1.0,  # without, wide, deep and many-branched networks fail on single seeds
            ema_decay=0.95,
            augmentation="crop",
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
    return Recipe(phases=paper_phases(image_size) if variant in PROGRESSIVE_VARIANTS else ())
