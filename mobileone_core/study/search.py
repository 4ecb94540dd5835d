"""A study whose cells a sampler proposes: the space it searches, and the hand-made networks it is held against."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import PRESETS
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.factor import Level
from mobileone_core.training.cell import CellSpec

Sampler = Literal["nsga2", "tpe", "random"]
Genes = tuple[int, ...]  # a candidate: the place of its choice in every dimension
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # one a gene in the record
MOST = 250  # candidates: the record holds a search in one tag of 5000 characters
STAGES = ("widths", "depths")


@dataclass(frozen=True)
class SearchStudy(Declaration):
    """A search in generations for the front of validation accuracy against deployed latency.

    The factors' levels and, for every stage by itself, the multiples of the base's channels (widths) and blocks
    (depths) are the space. Generation 0 holds the hand-made variants, each with every k of variant_k; the first is the
    network that latencies are ratios to. A generation is proposed from the results of all before it, search_seed and
    its own number. At the end the front and the variants are trained with further seeds: 1 to seeds.
    """

    widths: tuple[float, ...] = (0.5, 1.0, 2.0)
    depths: tuple[float, ...] = (1.0, 2.0)
    generations: int = 3
    population: int = 4
    sampler: Sampler = "nsga2"
    search_seed: int = 0
    seeds: int = 3
    variants: tuple[str, ...] = ("tiny", "small")
    variant_k: tuple[int, ...] = (1, 4)
    variant: str = "tiny"
    data: str = "digits"
    recipe: str = "digits"
    base: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)
    metric: ClassVar = "val/top1"
    curves: ClassVar = ()
    compares: ClassVar = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("generations", 1), ("population", 2), ("seeds", 1), ("search_seed", 0)):
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
            require(fits, name, value, f"an integer of {least} or more")
        allowed = f"with {self.generations} generations {MOST // self.generations} at most"
        require(self.population * self.generations <= MOST, "population", self.population, allowed)
        require(self.sampler in get_args(Sampler), "sampler", self.sampler, f"one of {', '.join(get_args(Sampler))}")
        for name in ("widths", "depths", "variants", "variant_k"):
            choices = getattr(self, name)
            once = len(set(choices)) == len(choices) >= 1
            require(once, name, list(choices), "one or more values, each once")
        for name in self.variants:
            require(name in PRESETS, "variants", name, f"one of {', '.join(PRESETS)}")
        for name, choices in (*((item.name, item.levels) for item in self.factors), ("widths", self.widths)):
            require(len(choices) <= len(DIGITS), name, len(choices), f"{len(DIGITS)} levels at most")


@dataclass(frozen=True)
class Space:
    """The dimensions of a search around a base cell: the factors', then a width and a depth a stage."""

    study: SearchStudy
    base: CellSpec

    def check(self) -> None:
        """InputError for a choice that no network can have."""
        for factor in self.study.factors:
            for level in factor.levels:
                factor.applied(self.base, level)
        for name in STAGES:
            for value in getattr(self.study, name):
                self.base.model.scaled(**{name.removesuffix("s"): value})

    @property
    def sizes(self) -> dict[str, int]:
        """Choices a dimension."""
        stages = range(1, 1 + len(self.base.model.widths))
        of_stages = {f"{name}.{stage}": len(getattr(self.study, name)) for name in STAGES for stage in stages}
        return {item.name: len(item.levels) for item in self.study.factors} | of_stages

    def cell(self, genes: Genes) -> CellSpec:
        """A candidate's cell, with seed 0. Raises InputError where a network cannot be so."""
        spec = self.base
        for factor, gene in zip(self.study.factors, genes, strict=False):
            spec = factor.applied(spec, factor.levels[gene])
        model, count = spec.model, len(spec.model.widths)
        rest = genes[len(self.study.factors) :]
        wider = [model.scaled(width=self.study.widths[gene]).widths for gene in rest[:count]]
        deeper = [model.scaled(depth=self.study.depths[gene]).depths for gene in rest[count:]]
        widths = tuple(values[stage] for stage, values in enumerate(wider))
        depths = tuple(values[stage] for stage, values in enumerate(deeper))
        return replace(spec, model=replace(model, widths=widths, depths=depths), seed=0)

    def is_possible(self, genes: Genes) -> bool:
        """Whether there is such a network: SE in some stages wants so many blocks."""
        try:
            self.cell(genes)
        except InputError:
            return False
        return True


def levels_of(spec: CellSpec) -> dict[str, Level]:
    """What a network is, as the levels of its run."""
    model = spec.model
    return {
        "k": model.k,
        "widths": model.widths,
        "depths": model.depths,
        "activation": model.activation,
        "se": model.se,
    }


def hand_made(study: SearchStudy, base: CellSpec) -> list[tuple[str, CellSpec]]:
    """The variants fitted to the data, by name, in each k."""
    from mobileone_core.study.presets import preset_cell

    cells = []
    for name, k in itertools.product(study.variants, study.variant_k):
        model = preset_cell(name, base.data, study.recipe).model
        cells.append((name, replace(base, model=model.changed(k=k), seed=0)))
    return cells
