"""The plan of a search: its generations so far, the comparisons that measure them, and the front at its end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any, ClassVar, Self

from mobileone_core.benchmark.spec import Entry, LatencySpec, changed_fields
from mobileone_core.errors import InputError, refusing
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.study.options import spec_options
from mobileone_core.study.plan import Plan, PlannedCell, PlannedComparison, study_from_json
from mobileone_core.study.presets import TrainingOptions
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search import (
    DEPLOYED,
    DIGITS,
    STAGES,
    Genes,
    Point,
    SearchStudy,
    Space,
    deployed,
    front,
    hand_made,
    network_label,
    network_levels,
)
from mobileone_core.training.cell import CellSpec

TEACHING = ("teachers", "temperature", "hard_label_weight")  # fields of a recipe with teachers
LENGTH = ("generations", "seeds")  # fields that may grow while the search stays the same
LEVELS = ("k", *DEPLOYED)  # fields of a network that are the factors of its run
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
        self.space.check()

    @cached_property
    def space(self) -> Space:
        """The space that candidates are drawn from."""
        return Space(self.study, self.base)

    @cached_property
    def generations(self) -> tuple[tuple[PlannedCell, ...], ...]:
        """The hand-made variants, then every proposed generation; a cell belongs to the first that has it."""
        study, groups = self.study, [hand_made(self.study, self.base)]
        groups += [[(CANDIDATE, self.space.cell(genes)) for genes in group] for group in self.proposed]
        planned: set[str] = set()
        generations = []
        for group in groups:
            cells = (PlannedCell(spec, study.name, name, network_levels(spec.model, LEVELS)) for name, spec in group)
            new = {cell.key: cell for cell in cells if cell.key not in planned}
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
        seeds = range(1, 1 + self.study.seeds)
        return tuple(replace(cell, spec=replace(cell.spec, seed=seed)) for seed in seeds)

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells of every generation, then the finalists' further seeds."""
        return (*chain(*self.generations), *chain(*map(self.seeds_of, self.finalists)))

    @cached_property
    def comparisons(self) -> tuple[PlannedComparison, ...]:
        """One per generation; at the end one of the finalists."""
        return tuple(self._compared(stage, cells) for stage, cells in self._stages if cells)

    @property
    def _stages(self) -> list[tuple[int | None, tuple[PlannedCell, ...]]]:
        """The generations by number, and the finalists."""
        return [*enumerate(self.generations), (None, self.finalists)]

    def _compared(self, stage: int | None, cells: tuple[PlannedCell, ...]) -> PlannedComparison:
        """The deployed networks of a stage next to the reference, which is the first variant."""
        name = "finalists" if stage is None else f"generation {stage}"
        reference = deployed(self.generations[0][0].spec.model)
        networks = dict.fromkeys([reference, *(deployed(cell.spec.model) for cell in cells)])
        label, size, classes = network_label(reference), self.base.data.image_size, self.base.data.num_classes
        entries = tuple(
            Entry(
                network_label(network),
                {**network_levels(network), "stage": name},
                LatencyCell(network, image_size=size, num_classes=classes),
                label,
            )
            for network in networks
        )
        return PlannedComparison(LatencySpec(entries, self.study.protocol), self.study.name, "", needs=())

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
    @refusing("plan: written by another version")
    def from_json(cls, text: str) -> "SearchPlan":
        """Read a recorded plan. Raises InputError if another version wrote it."""
        content = json.loads(text)
        study, base = study_from_json(SearchStudy, content["study"]), CellSpec.from_json(json.dumps(content["base"]))
        generations = [generation.split() for generation in content["proposed"]]
        proposed = tuple(tuple(tuple(map(DIGITS.index, genes)) for genes in group) for group in generations)
        settings = {"default": content["default"], "default_lineage": content["own"]}
        return cls(study, base, proposed=proposed, confirmed=tuple(content["confirmed"].split()), **settings)

    def overview(self, states: str) -> list[str]:
        """The lines of --plan: cells (states is a text that counts them), space, generations, and the next steps."""
        study, done, sizes, base = self.study, len(self.proposed), self.space.sizes, self.base
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

        space, study = self.space, self.study
        taken = {cell.key for cell in chain(*self.generations)}
        measured = [
            MeasuredCandidate(genes, points[key], number)
            for number, generation in enumerate(self.proposed, start=1)
            for genes in generation
            if (key := space.cell(genes).key) in points
        ]

        def is_new(genes: Genes) -> bool:
            try:
                key = space.cell(genes).key
            except InputError:  # SE in a stage needs enough blocks
                return False
            is_first = key not in taken
            taken.add(key)
            return is_first

        return propose(study.sampler, study.search_seed, space.sizes, measured, study.population, is_new)

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
        stages = self._stages[::-1] if final else self._stages
        planned = next(self._compared(stage, cells) for stage, cells in stages if cell in cells)
        label = network_label(deployed(cell.spec.model))
        factors = next(dict(entry.factors) for entry in planned.spec.entries if entry.label == label)
        matches = (row for row in record.comparison if row.key == planned.key and dict(row.factors) == factors)
        return next(matches, None)


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
