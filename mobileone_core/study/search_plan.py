"""What a search has come to: its generations so far, what of them waits in the queue, and the front at its end."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, LatencySpec, changed_fields
from mobileone_core.errors import InputError
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.factor import Factor, frozen, level_text
from mobileone_core.study.plan import PlannedCell, PlannedComparison
from mobileone_core.study.search import DIGITS, Genes, SearchStudy, Space, hand_made, levels_of
from mobileone_core.training.cell import CellSpec

SEARCH = "search"  # the kind of plan, in its JSON
LATER = ("generations", "seeds")  # what may grow while a search stays the same
SEARCHED = "candidate"  # the variant of a proposed network


@dataclass(frozen=True)
class SearchPlan:
    """A search as far as it has come: proposed holds the generations from 1, confirmed the keys of the front's
    candidates once all generations are measured. default: its settings are the study's own; own: all but its length.
    """

    study: SearchStudy
    base: CellSpec
    default: bool = False
    own: bool = False
    proposed: tuple[tuple[Genes, ...], ...] = ()
    confirmed: tuple[str, ...] = ()
    teachers: tuple[()] = ()
    comparison: None = None

    def __post_init__(self) -> None:
        self.space.check()

    @cached_property
    def space(self) -> Space:
        return Space(self.study, self.base)

    @cached_property
    def generations(self) -> tuple[tuple[PlannedCell, ...], ...]:
        """The hand-made variants, then every generation proposed; a cell stands in one alone."""
        own = [[self._cell(name, spec) for name, spec in hand_made(self.study, self.base)]]
        own += [[self._cell(SEARCHED, self.space.cell(genes)) for genes in proposed] for proposed in self.proposed]
        found: dict[str, int] = {}
        for number, cells in enumerate(own):
            for cell in cells:
                found.setdefault(cell.key, number)
        once = [{cell.key: cell for cell in cells if found[cell.key] == number} for number, cells in enumerate(own)]
        return tuple(tuple(cells.values()) for cells in once)

    def _cell(self, variant: str, spec: CellSpec) -> PlannedCell:
        return PlannedCell(spec, self.study.name, variant, levels_of(spec))

    @cached_property
    def finalists(self) -> tuple[PlannedCell, ...]:
        """The variants and the front's candidates, with seed 0; empty before the front is known."""
        if not self.confirmed:
            return ()
        chosen = [cell for cells in self.generations[1:] for cell in cells if cell.key in self.confirmed]
        return (*self.generations[0], *chosen)

    def seeds_of(self, cell: PlannedCell) -> tuple[PlannedCell, ...]:
        """A finalist with the seeds that chose nothing."""
        seeds = range(1, 1 + self.study.seeds)
        return tuple(replace(cell, spec=replace(cell.spec, seed=seed)) for seed in seeds)

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Every generation's, then the finalists' further seeds."""
        first = [cell for cells in self.generations for cell in cells]
        return (*first, *(cell for finalist in self.finalists for cell in self.seeds_of(finalist)))

    @cached_property
    def comparisons(self) -> tuple[PlannedComparison, ...]:
        """A generation's networks side by side, a comparison each; at the end one of the finalists."""
        stages = [*enumerate(self.generations), *([(None, self.finalists)] if self.finalists else [])]
        return tuple(self._compared(stage, cells) for stage, cells in stages if cells)

    def comparison_of(self, cell: PlannedCell) -> PlannedComparison:
        """The one that measured a candidate's generation."""
        number = next(number for number, cells in enumerate(self.generations) if cell in cells)
        return self._compared(number, self.generations[number])

    def _compared(self, stage: int | None, cells: tuple[PlannedCell, ...]) -> PlannedComparison:
        """The networks of a stage beside the reference, which is the first variant; k makes no other deployed one."""
        name = "finalists" if stage is None else f"generation {stage}"
        reference = deployed(self.generations[0][0].spec.model)
        networks = dict.fromkeys([reference, *(deployed(cell.spec.model) for cell in cells)])
        label = network_label(reference)
        data = self.base.data
        arms = tuple(
            Entry(
                network_label(network),
                {**_shape(network), "stage": name},
                LatencyCell(network, image_size=data.image_size, num_classes=data.num_classes),
                label,
            )
            for network in networks
        )
        return PlannedComparison(LatencySpec(arms, self.study.protocol), self.study.name, "", needs=())

    @property
    def queued(self) -> tuple[PlannedCell | PlannedComparison, ...]:
        return (*self.cells, *self.comparisons)

    @property
    def lineage(self) -> str:
        """Names the search whatever its length: more generations or seeds go on with the same one."""
        study = {name: value for name, value in self._declared.items() if name not in LATER}
        text = json.dumps({"study": study, "base": json.loads(self.base.to_json())}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def queue(self) -> str:
        """Where its cells wait: searches that differ in generations or seeds alone share a queue."""
        return self.study.name if self.own else f"{self.study.name}-{self.lineage[:6]}"

    @property
    def _declared(self) -> dict[str, Any]:
        study = {item.name: getattr(self.study, item.name) for item in dataclasses.fields(self.study)}
        factors = [dataclasses.asdict(factor) for factor in self.study.factors]
        return {**study, "base": dict(self.study.base), "factors": factors,
                "protocol": changed_fields(self.study.protocol)}  # fmt: skip

    @property
    def id(self) -> str:
        """The plan's name: a hash of what was asked for, not of how far it has come."""
        return hashlib.sha256(self.as_asked.to_json().encode()).hexdigest()[:8]

    @property
    def as_asked(self) -> "SearchPlan":
        """The search before its first proposal."""
        return replace(self, proposed=(), confirmed=())

    def to_json(self) -> str:
        """The declaration and what was proposed, as recorded."""
        content = {
            "plan": SEARCH,
            "study": self._declared,
            "base": json.loads(self.base.to_json()),
            "default": self.default,
            "own": self.own,
            "proposed": [" ".join(_written(genes) for genes in generation) for generation in self.proposed],
            "confirmed": " ".join(self.confirmed),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "SearchPlan":
        """Read a plan; InputError where another version wrote it."""
        content = json.loads(text)
        study: dict[str, Any] = frozen(content["study"])
        try:
            study["factors"] = tuple(Factor(**item) for item in study["factors"])
            study["protocol"] = Protocol(**study["protocol"])
            proposed = tuple(tuple(map(_read, generation.split())) for generation in content["proposed"])
            base = CellSpec.from_json(json.dumps(content["base"]))
            confirmed = tuple(content["confirmed"].split())
            return cls(SearchStudy(**study), base, content["default"], content["own"], proposed, confirmed)
        except (KeyError, TypeError) as error:
            raise InputError(f"plan: written by another version ({error})") from error


def deployed(model: ModelSpec) -> ModelSpec:
    """What k makes no difference to once the branches are folded."""
    return model.changed(k=1, stem_k=1)


def network_label(model: ModelSpec) -> str:
    """A deployed network in words."""
    return " ".join(f"{name} {level_text(level)}" for name, level in _shape(model).items())


def _shape(model: ModelSpec) -> Mapping[str, Any]:
    """The levels that a deployed network shows: not k."""
    return {name: getattr(model, name) for name in ("widths", "depths", "activation", "se")}


def _written(genes: Genes) -> str:
    return "".join(DIGITS[gene] for gene in genes)


def _read(text: str) -> Genes:
    return tuple(DIGITS.index(sign) for sign in text)


def every_cell(plan: SearchPlan) -> Iterator[tuple[int, PlannedCell]]:
    """Every candidate and variant with its generation."""
    return ((number, cell) for number, cells in enumerate(plan.generations) for cell in cells)
