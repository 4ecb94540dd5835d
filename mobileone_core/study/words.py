"""A field of a cell and its value in words, as plans and reports print them. No torch here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobileone_core.study.factor import level_text
from mobileone_core.training.recipe import Phase, Teacher


def field_words(name: str, value: Any) -> str:  # noqa: ANN401
    """A field of a cell and its value in words: activation gelu, teacher small."""
    return WORDS[name](value) if name in WORDS else f"{name} {level_text(value)}"


def size_words(phases: Sequence[Phase]) -> str:
    """The resolutions of progressive learning: 24, 28, 32 px."""
    return f"{', '.join(str(phase.image_size) for phase in phases)} px"


def _ema_words(decay: float) -> str:
    return f"averaged weights (EMA {decay:g})" if decay else "last weights"


def _annealing_words(end: float | None) -> str:
    return "constant weight decay" if end is None else f"weight decay annealed to {end:g}"


def _phase_words(phases: Sequence[Phase]) -> str:
    if not phases:
        return "no progressive learning"
    strengths = ", ".join(str(float(phase.autoaugment)) for phase in phases)
    return f"progressive learning {size_words(phases)} with AutoAugment {strengths}"


def _teacher_words(teachers: Sequence[Teacher]) -> str:
    names = [item.network + (f" (weights {item.weights})" if item.weights else "") for item in teachers]
    return f"teacher{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no teacher"


WORDS: Mapping[str, Callable[[Any], str]] = {
    "image_size": lambda pixels: f"{pixels} px",
    "phases": _phase_words,
    "teachers": _teacher_words,
    "weight_decay_end": _annealing_words,
    "ema_decay": _ema_words,
}
