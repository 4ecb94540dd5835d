"""A field of a cell and its value as text, as plans and reports print them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobileone_core.study.factor import level_text
from mobileone_core.training.recipe import Phase, Teacher


def field_text(name: str, value: Any) -> str:
    """A field and its value: "activation gelu", "teacher small"."""
    return TEXTS[name](value) if name in TEXTS else f"{name} {level_text(value)}"


def sizes_text(phases: Sequence[Phase]) -> str:
    """The resolutions of progressive learning: "24, 28, 32 px"."""
    return f"{', '.join(str(phase.image_size) for phase in phases)} px"


def _ema_text(decay: float) -> str:
    return f"averaged weights (EMA {decay:g})" if decay else "last weights"


def _annealing_text(end: float | None) -> str:
    return "constant weight decay" if end is None else f"weight decay annealed to {end:g}"


def _phases_text(phases: Sequence[Phase]) -> str:
    if not phases:
        return "no progressive learning"
    strengths = ", ".join(str(float(phase.autoaugment)) for phase in phases)
    return f"progressive learning {sizes_text(phases)} with AutoAugment {strengths}"


def _teachers_text(teachers: Sequence[Teacher]) -> str:
    names = [item.network + (f" (weights {item.weights})" if item.weights else "") for item in teachers]
    return f"teacher{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no teacher"


TEXTS: Mapping[str, Callable[[Any], str]] = {
    "image_size": lambda pixels: f"{pixels} px",
    "phases": _phases_text,
    "teachers": _teachers_text,
    "weight_decay_end": _annealing_text,
    "ema_decay": _ema_text,
}
