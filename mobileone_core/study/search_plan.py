"""The plan of a search: its generations so far, the comparisons that measure them, and the front at its end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product
from math import prod
from typing import Any, ClassVar, Self

from mobileone_core.benchmark.spec import Entry, LatencySpec, changed_fields
from mobileone_core.errors import InputError
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.options import spec_options
from mobileone_core.study.plan import Plan, PlannedCell, PlannedComparison, study_from_json
from mobileone_core.study.presets import TrainingOptions, preset_cell
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search import DIGITS, STAGES, Genes, Point, SearchStudy, front
from mobileone_core.training.cell import CellSpec

TEACHING = ("teachers", "temperature", "hard_label_weight")  # fields of a recipe with teachers
LENGTH = ("generations", "seeds")  # fields that may grow while the search stays the same
DEPLOYED = (*STAGES, "activation", "se")  # fields that a deployed network shows: k changes nothing in it
CANDIDATE = "candidate"  # the variant of a proposed network
ACCURACY, RATIO = "val/top1", "latency/ratio"


@dataclass(frozen=True)
class SearchPlan(Plan):
    """A search as far as it has come: proposed holds the generations from 1, confirmed the keys of the front's
    candidates once all generations are measured.

    default tells whether the search is the study unchanged, default_lineage whether it differs in length alone.
    """

    kind: ClassVar[str] = "search"

    study: SearchStudy
    base: CellSpec
    default_lineage: bool = field(default=False, kw_only=True)
    proposed: tuple[tuple[Genes, ...], ...] = ()
    confirmed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise InputError for a choice that no network can have."""
        for factor in self.study.factors:
            for level in factor.levels:
                factor.applied(self.base, level)
        for name in STAGES:
            for value in getattr(self.study, name):
                self.base.model.scaled(**{name.removesuffix("s"): value})

    @property
    def sizes(self) -> dict[str, int]:
        """The number of choices in each dimension of the space: the factors', then a width and a depth a stage."""
        stages = range(1, 1 + len(self.base.model.widths))
        of_stages = {f"{name}.{stage}": len(getattr(self.study, name)) for name in STAGES for stage in stages}
        return {item.name: len(item.levels) for item in self.study.factors} | of_stages

    def candidate(self, genes: Genes) -> CellSpec:
        """A candidate's cell, with seed 0. Raises InputError if no such network exists."""
        study, first = self.study, len(self.study.factors)
        levels = {factor.name: factor.levels[gene] for factor, gene in zip(study.factors, genes, strict=False)}
        spec = study.applied(self.base, levels)
        model, last = spec.model, first + len(spec.model.widths)
        wider, deeper = enumerate(genes[first:last]), enumerate(genes[last:])
        widths = tuple(model.scaled(width=study.widths[gene]).widths[stage] for stage, gene in wider)
        depths = tuple(model.scaled(depth=study.depths[gene]).depths[stage] for stage, gene in deeper)
        return replace(spec, model=replace(model, widths=widths, depths=depths))

    @cached_property
    def generations(self) -> tuple[tuple[PlannedCell, ...], ...]:
        """The hand-made variants, then every proposed generation; a cell belongs to the first that has it."""
        study, start = self.study, self.base
        models = ((name, preset_cell(name, start.data, study.recipe).model) for name in study.variants)
        hand_made = product(models, study.variant_k)
        groups = [[(name, replace(start, model=model.changed(k=k))) for (name, model), k in hand_made]]
        groups += [[(CANDIDATE, self.candidate(genes)) for genes in group] for group in self.proposed]
        planned: set[str] = set()
        generations = []
        for group in groups:
            new = {
                spec.key: PlannedCell(spec, study.name, name, {"k": spec.model.k, **network_levels(spec.model)})
                for name, spec in group
                if spec.key not in planned
            }
            planned.update(new)
            generations.append(tuple(new.values()))
        return tuple(generations)

    @cached_property
    def finalists(self) -> tuple[PlannedCell, ...]:
        """The variants and the front's candidates, with seed 0; empty before the front is known."""
        if not self.confirmed:
            return ()
        return (*self.generations[0], *(cell for cell in chain(*self.generations[1:]) if cell.key in self.confirmed))

    def seeds_of(self, cell: PlannedCell) -> tuple[PlannedCell, ...]:
        """A finalist with the further seeds, which had no part in choosing it."""
        return tuple(replace(cell, spec=cell.spec.with_seed(seed)) for seed in range(1, 1 + self.study.seeds))

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells of every generation, then the finalists' further seeds."""
        return (*chain(*self.generations), *chain(*map(self.seeds_of, self.finalists)))

    @cached_property
    def comparisons(self) -> tuple[PlannedComparison, ...]:
        """One per generation; at the end one of the finalists."""
        return tuple(self._compared(stage, cells) for stage, cells in self._stages.items() if cells)

    @property
    def _stages(self) -> dict[str, tuple[PlannedCell, ...]]:
        """The generations, and the finalists."""
        generations = {f"generation {number}": cells for number, cells in enumerate(self.generations)}
        return {**generations, "finalists": self.finalists}

    def _compared(self, stage: str, cells: tuple[PlannedCell, ...]) -> PlannedComparison:
        """The deployed networks of a stage next to the reference, which is the first variant."""
        reference = deployed(self.generations[0][0].spec.model)
        networks = dict.fromkeys([reference, *(deployed(cell.spec.model) for cell in cells)])
        label, size, classes = network_label(reference), self.base.data.image_size, self.base.data.num_classes
        entries = []
        for network in networks:
            levels = {**network_levels(network), "stage": stage}
            cell = LatencyCell(network, image_size=size, num_classes=classes)
            entries.append(Entry(network_label(network), levels, cell, label))
        return PlannedComparison(LatencySpec(tuple(entries), self.study.protocol), self.study.name, "", needs=())

    @property
    def lineage(self) -> str:
        """Names the search whatever its length: more generations or seeds continue it."""
        study = {name: value for name, value in self.declared.items() if name not in LENGTH}
        text = json.dumps({"study": study, "base": json.loads(self.base.to_json())}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def queue(self) -> str:
        """The study's name, with a hash of what differs; searches that differ in length alone share a queue."""
        return self.study.name if self.default_lineage else f"{self.study.name}-{self.lineage[:6]}"

    @property
    def declared(self) -> dict[str, Any]:
        """The declaration as JSON content; of the protocol the fields that differ from the defaults."""
        return super().declared | {"protocol": changed_fields(self.study.protocol)}

    @property
    def requested(self) -> "SearchPlan":
        """The search before its first proposal."""
        return replace(self, proposed=(), confirmed=())

    @property
    def resolved(self) -> dict[str, Any]:
        """The base and what was proposed, a digit per gene."""
        proposed = [" ".join("".join(DIGITS[gene] for gene in genes) for genes in group) for group in self.proposed]
        base, confirmed = json.loads(self.base.to_json()), " ".join(self.confirmed)
        fields = {"base": base, "own": self.default_lineage, "proposed": proposed, "confirmed": confirmed}
        return super().resolved | fields

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "SearchPlan":
        """Read a recorded plan's JSON content. Raises InputError if another version wrote it."""
        study, base = study_from_json(SearchStudy, content["study"]), CellSpec.from_json(json.dumps(content["base"]))
        generations = [generation.split() for generation in content["proposed"]]
        proposed = tuple(tuple(tuple(map(DIGITS.index, genes)) for genes in group) for group in generations)
        settings = {"default": content["default"], "default_lineage": content["own"]}
        return cls(study, base, proposed=proposed, confirmed=tuple(content["confirmed"].split()), **settings)

    def overview(self, states: str) -> list[str]:
        """The lines of --plan: cells (states is a text that counts them), space, generations, and the next steps."""
        study, done, sizes, base = self.study, len(self.proposed), self.sizes, self.base
        dimensions = ", ".join(f"{name} {size}" for name, size in sizes.items())
        lines = [
            f"{study.name}: {len(self.queued)} cells so far; {states}",
            f"{study.variant} on {base.data.name} at {base.data.image_size} px; {base.recipe.epochs} epochs",
            *self.training_lines,
            f"{study.sampler} over {prod(sizes.values()):,} networks: {dimensions}",
            f"generations: {done} of {study.generations} proposed, {study.population} candidates each",
        ]
        if done < study.generations:
            lines.append(f"still to be proposed, each from the results before it: {done + 1} to {study.generations}")
        if not self.confirmed:
            lines.append(f"then: the front and the hand-made networks with {study.seeds} further seeds, side by side")
        cells = [f"generation {n}: {' '.join(cell.key for cell in cells)}" for n, cells in enumerate(self.generations)]
        return [*lines, *cells]

    @property
    def is_final(self) -> bool:
        """Whether the front is known."""
        return bool(self.confirmed)

    def resumed(self, recorded: Sequence[Self]) -> Self:
        """This search with the recorded generations of the same search, and its front if it is as long."""
        same = [plan for plan in recorded if plan.lineage == self.lineage]
        longest = max((plan.proposed for plan in same), key=len, default=())
        confirmed = next((plan.confirmed for plan in same if plan.id == self.id), ())
        return replace(self, proposed=longest[: self.study.generations], confirmed=confirmed)

    def grown(self, record: StudyRecord) -> "SearchPlan":
        """This search with its next generation, or with the front's candidates once there is no next one."""
        points = self.points(record)
        if len(self.proposed) < self.study.generations and (proposed := self._propose(points)):
            return replace(self, proposed=(*self.proposed, proposed))
        measured = [cell for cell in chain(*self.generations[1:]) if cell.key in points]
        best = front([points[cell.key] for cell in measured])
        return replace(self, confirmed=tuple(measured[index].key for index in best))

    def _propose(self, points: Mapping[str, Point]) -> tuple[Genes, ...]:
        from mobileone_core.study.queue.proposals import MeasuredCandidate, propose

        study = self.study
        taken = {cell.key for cell in chain(*self.generations)}
        measured = [
            MeasuredCandidate(genes, points[key], number)
            for number, generation in enumerate(self.proposed, start=1)
            for genes in generation
            if (key := self.candidate(genes).key) in points
        ]

        def is_new(genes: Genes) -> bool:
            try:
                key = self.candidate(genes).key
            except InputError:  # SE in a stage needs enough blocks
                return False
            is_first = key not in taken
            taken.add(key)
            return is_first

        return propose(study.sampler, study.search_seed, self.sizes, measured, study.population, is_new)

    def points(self, record: StudyRecord) -> dict[str, Point]:
        """Validation accuracy and latency ratio by key, of every variant and candidate that has both."""
        rows = {row.key: row for row in record.rows}
        points = {}
        for cell in chain(*self.generations):
            row, timed = rows.get(cell.key), self.latency_row(record, cell)
            if row is not None and timed is not None and ACCURACY in row.metrics and RATIO in timed.metrics:
                points[cell.key] = Point(row.metrics[ACCURACY], timed.metrics[RATIO])
        return points

    def latency_row(self, record: StudyRecord, cell: PlannedCell, *, final: bool = False) -> CellRow | None:
        """The measurement of a candidate's deployed network in its generation, or among the finalists."""
        stages = self._stages
        names = [name for name, cells in stages.items() if cell in cells]  # a finalist is in two
        stage = names[-1] if final else names[0]
        key = self._compared(stage, stages[stage]).key
        factors = {**network_levels(deployed(cell.spec.model)), "stage": stage}
        return next((row for row in record.comparison if row.key == key and dict(row.factors) == factors), None)


def network_levels(model: ModelSpec) -> dict[str, Level]:
    """The fields of a network that a search varies, as far as a deployed network shows them."""
    return {name: getattr(model, name) for name in DEPLOYED}


def deployed(model: ModelSpec) -> ModelSpec:
    """The network with k = 1: k changes nothing once the branches are folded."""
    return model.changed(k=1, stem_k=1)


def network_label(model: ModelSpec) -> str:
    """A deployed network as text."""
    return " ".join(f"{name} {level_text(level)}" for name, level in network_levels(model).items())


class SearchOptions(TrainingOptions):
    """The command line of a SearchStudy: the search sets widths and depths, and trains without teachers."""

    hidden = frozenset({*(f"model.{name}" for name in STAGES), *(f"recipe.{name}" for name in TEACHING)})

    def plan(self, study: SearchStudy, base: CellSpec, usual: tuple[SearchStudy, CellSpec] | None) -> SearchPlan:
        """The search of a study and base cell with the options applied, before its first proposal."""
        requested, default = SearchPlan(study, base), SearchPlan(*usual) if usual else None
        is_default_lineage = default is not None and requested.lineage == default.lineage
        return replace(requested, default=requested == default, default_lineage=is_default_lineage)

    def study_groups(self) -> dict[str, Any]:
        """How the space is searched."""
        return {"search": spec_options("How it is searched.", self.study, {"seeds"})}
