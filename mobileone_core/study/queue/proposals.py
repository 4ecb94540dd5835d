"""The next generation of a search, from the results before it: Optuna's samplers in memory, never in the queue."""

import hashlib
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from mobileone_core.study.pareto import Point
from mobileone_core.study.search import Genes, Sampler

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

TRIES = 30  # draws a candidate before the rest is drawn at random
ENOUGH = 20_000  # draws at random before the space counts as exhausted
GENERATION = NSGAIISampler._get_generation_key()


@dataclass(frozen=True)
class Measured:
    """A candidate with its results, and its generation, counted from 1."""

    genes: Genes
    point: Point
    generation: int


def propose(  # noqa: PLR0913, PLR0917
    sampler: Sampler,
    seed: int,
    sizes: Mapping[str, int],
    measured: Sequence[Measured],
    population: int,
    is_new: Callable[[Genes], bool],
) -> tuple[Genes, ...]:
    """Up to population new candidates: the same ones for the same arguments; fewer where the space has no more.

    sizes are the choices a dimension; is_new refuses what is known or impossible, and is asked in order.
    """
    generation = 1 + max((item.generation for item in measured), default=0)
    drawn: list[Genes] = []
    for genes in _draws(sampler, derived(seed, generation), sizes, measured, population):
        if len(drawn) == population:
            break
        if genes not in drawn and is_new(genes):
            drawn.append(genes)
    return tuple(drawn)


def derived(seed: int, generation: int) -> int:
    """A generation's own seed."""
    return int.from_bytes(hashlib.sha256(f"search {seed} {generation}".encode()).digest()[:4])


def _draws(
    sampler: Sampler, seed: int, sizes: Mapping[str, int], measured: Sequence[Measured], population: int
) -> Iterator[Genes]:
    """The sampler's draws, then such at random."""
    distributions: dict[str, BaseDistribution] = {name: IntDistribution(0, size - 1) for name, size in sizes.items()}
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=_sampler(sampler, seed, measured))
    for item in measured:
        study.add_trial(
            create_trial(
                params=dict(zip(sizes, item.genes, strict=True)),
                distributions=distributions,
                values=[item.point.accuracy, item.point.latency],
                system_attrs={GENERATION: item.generation - 1},
            )
        )
    for _ in range(TRIES * population):
        trial = study.ask(distributions)
        yield tuple(trial.params[name] for name in sizes)
        study.tell(trial, state=TrialState.FAIL)
    chance = random.Random(seed)
    for _ in range(ENOUGH):
        yield tuple(chance.randrange(size) for size in sizes.values())


def _sampler(name: Sampler, seed: int, measured: Sequence[Measured]) -> BaseSampler:
    """NSGA-II takes the last generation as whole, however many of it were measured."""
    if name == "random" or not measured:
        return RandomSampler(seed)
    if name == "tpe":
        return TPESampler(n_startup_trials=1, seed=seed)
    last = max(item.generation for item in measured)
    size = sum(item.generation == last for item in measured)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NSGAIISampler(population_size=max(2, size), seed=seed)
