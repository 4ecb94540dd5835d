"""The next generation of a search, proposed by Optuna's samplers from the results so far; in memory only."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from mobileone_core.study.search import Genes, Point, Sampler

optuna.logging.set_verbosity(optuna.logging.CRITICAL)

SAMPLER_DRAWS = 30  # draws of the sampler per candidate, before random draws follow
RANDOM_DRAWS = 20_000  # random draws after which the space counts as exhausted
GENERATION = NSGAIISampler._get_generation_key()


@dataclass(frozen=True)
class MeasuredCandidate:
    """A candidate with its accuracy and latency, and its generation, counted from 1."""

    genes: Genes
    point: Point
    generation: int


def propose(  # noqa: PLR0913, PLR0917
    sampler: Sampler,
    seed: int,
    sizes: Mapping[str, int],
    measured: Sequence[MeasuredCandidate],
    population: int,
    is_new: Callable[[Genes], bool],
) -> tuple[Genes, ...]:
    """Propose the next generation of a search; the same arguments give the same candidates.

    sizes: number of choices per dimension; measured: candidates of earlier generations; population: candidates to
    propose, fewer if the space has no more; is_new: called once per candidate, in order, returns False to reject it.
    """
    generation = 1 + max((item.generation for item in measured), default=0)
    chosen: list[Genes] = []
    generation_seed = int.from_bytes(hashlib.sha256(f"search {seed} {generation}".encode()).digest()[:4])
    for genes in _draws(sampler, generation_seed, sizes, measured, population):
        if len(chosen) == population:
            break
        if genes not in chosen and is_new(genes):
            chosen.append(genes)
    return tuple(chosen)


def _draws(
    sampler: Sampler, seed: int, sizes: Mapping[str, int], measured: Sequence[MeasuredCandidate], population: int
) -> Iterator[Genes]:
    distributions: dict[str, BaseDistribution] = {name: IntDistribution(0, size - 1) for name, size in sizes.items()}
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=_sampler(sampler, seed, measured))
    for item in measured:
        params, attributes = dict(zip(sizes, item.genes, strict=True)), {GENERATION: item.generation - 1}
        past = create_trial(params=params, distributions=distributions, values=[*item.point], system_attrs=attributes)
        study.add_trial(past)
    for _ in range(SAMPLER_DRAWS * population):
        trial = study.ask(distributions)
        yield tuple(trial.params[name] for name in sizes)
        study.tell(trial, state=TrialState.FAIL)
    generator = random.Random(seed)
    for _ in range(RANDOM_DRAWS):
        yield tuple(generator.randrange(size) for size in sizes.values())


def _sampler(name: Sampler, seed: int, measured: Sequence[MeasuredCandidate]) -> BaseSampler:
    """Optuna's sampler. NSGA-II treats the last generation as complete, however many candidates were measured."""
    if name == "random" or not measured:
        return RandomSampler(seed)
    if name == "tpe":
        return TPESampler(n_startup_trials=1, seed=seed)
    last = max(item.generation for item in measured)
    size = sum(item.generation == last for item in measured)
    return NSGAIISampler(population_size=max(2, size), seed=seed)
