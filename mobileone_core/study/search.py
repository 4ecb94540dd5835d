"""A study whose cells a sampler proposes, and Pareto fronts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.errors import require, require_choice, require_integer
from mobileone_core.fields import option
from mobileone_core.model.spec import PRESETS
from mobileone_core.study.declaration import TrainedStudy
from mobileone_core.study.factor import require_distinct

Sampler = Literal["nsga2", "tpe", "random"]
Genes = tuple[int, ...]  # a candidate: the index of its choice in every dimension
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # one per gene in the record
MAX_CANDIDATES = 250  # the record holds a search in one tag of 5000 characters
STAGES = ("widths", "depths")


@dataclass(frozen=True)
class SearchStudy(TrainedStudy):
    """A search in generations for the front of validation accuracy against deployed latency. Raises InputError.

    The space: the factors' levels and, for every stage by itself, multiples of the base's channels (widths) and blocks
    (depths). Generation 0 holds the hand-made variants, each with every k of variant_k; the first is the network that
    latencies are ratios to. Each further generation is proposed from the results of those before it, search_seed and
    its number. At the end the front and the variants are trained with further seeds, 1 to seeds.
    """

    seeds: int = option(
        3, "Further seeds, 1 and so on, of the front and the hand-made networks at the end.", require_integer
    )
    widths: tuple[float, ...] = option((0.5, 1.0, 2.0), "Multiples of the channels, chosen stage by stage.")
    depths: tuple[float, ...] = option((1.0, 2.0), "Multiples of the blocks, chosen stage by stage.")
    generations: int = option(3, "Rounds of proposals; more of them continue the same search.", require_integer)
    population: int = option(4, "Candidates per generation.", partial(require_integer, at_least=2))
    sampler: Sampler = option("nsga2", "Sampler that proposes, of Optuna: nsga2, tpe or random.")
    search_seed: int = option(0, "Seed of the proposals.", partial(require_integer, at_least=0))
    variants: tuple[str, ...] = option(
        ("tiny", "small"), "Hand-made networks to compare with; latencies are ratios to the first."
    )
    variant_k: tuple[int, ...] = option((1, 4), "Branches per block of each hand-made network.")
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("task", self.task, [TrainedStudy.task])  # the metric is a classifier's
        allowed = f"with {self.generations} generations {MAX_CANDIDATES // self.generations} at most"
        require(self.population * self.generations <= MAX_CANDIDATES, "population", self.population, allowed)
        for name in (*STAGES, "variants", "variant_k"):
            require_distinct(name, getattr(self, name))
        for name in self.variants:
            require_choice("variants", name, PRESETS)
        for name, choices in (*((item.name, item.levels) for item in self.factors), ("widths", self.widths)):
            require(len(choices) <= len(DIGITS), name, len(choices), f"{len(DIGITS)} levels at most")

    @property
    def metric(self) -> str:
        """The metric that the search maximizes."""
        return "val/top1"


class Point(NamedTuple):
    """An accuracy (a fraction, higher is better) and a latency (a ratio, lower is better)."""

    accuracy: float
    latency: float

    def dominates(self, other: "Point") -> bool:
        """Whether this point is at least as good in both objectives and better in one."""
        return self != other and self.accuracy >= other.accuracy and self.latency <= other.latency


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point dominates, in order; of equal points the first."""
    return [
        index
        for index, point in enumerate(points)
        if point not in points[:index] and not any(other.dominates(point) for other in points)
    ]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area (accuracy times latency) that the points dominate, bounded by the reference point, the worst corner."""
    area, best = 0.0, reference.accuracy
    for point in sorted(points, key=lambda point: (point.latency, -point.accuracy)):
        if point.accuracy > best and point.latency < reference.latency:
            area += (point.accuracy - best) * (reference.latency - point.latency)
            best = point.accuracy
    return area
