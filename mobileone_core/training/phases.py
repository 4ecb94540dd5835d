"""Progressive learning as data: phases of training with a resolution and a strength each. No torch here."""

from dataclasses import dataclass, replace

from mobileone_core.errors import require


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


PROGRESSIVE_VARIANTS = ("s2", "s3", "s4")

# Epochs 0-38, 39-113 and 114-299 of 300: re-implementations, and the jumps of figure 4. Resolutions: the same.
# Strengths: the paper says that they rise. MMPretrain uses 0.3, 0.7 and 1.0 (of RandAugment where the paper has
# AutoAugment); elsewhere the middle one is 0.6. Which of the two the authors used is not known.
PAPER_PHASES = (Phase(0.13, 160, 0.3), Phase(0.38, 192, 0.7), Phase(1.0, 224, 1.0))


def paper_phases(image_size: int = 224) -> tuple[Phase, ...]:
    """PAPER_PHASES for images of another size: the same fractions of it, in multiples of 4 pixels, the last exact."""
    last = PAPER_PHASES[-1].image_size
    sizes = [max(4, 4 * round(phase.image_size * image_size / last / 4)) for phase in PAPER_PHASES[:-1]]
    pairs = zip(PAPER_PHASES, [*sizes, image_size], strict=True)
    return tuple(replace(phase, image_size=min(size, image_size)) for phase, size in pairs)
