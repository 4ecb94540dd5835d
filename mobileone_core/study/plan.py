"""Plans: a study resolved into the work that its queue holds. Each kind of study has a subclass of Plan."""

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import AnySpec, DeployedSpec, FormsSpec
from mobileone_core.errors import InputError
from mobileone_core.fields import as_tuples
from mobileone_core.model.cost import ModelCost, model_cost
from mobileone_core.model.libraries import LIBRARIES
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.factor import Factor, Level
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.workspace import TRAIN
from mobileone_core.training.cell import BACKBONE, CellSpec, pretraining_cell, teacher_cell
from mobileone_core.training.named_networks import classifier_by_name, read_name
from mobileone_core.training.recipe import PRETRAINING
from mobileone_core.training.tasks import task_spec

DIGITS = 1210  # training images of digits
Role = Literal["cell", "teacher", "comparison"]
cached_cost = functools.lru_cache(maxsize=1024)(model_cost)  # all seeds of a setting share a network


@dataclass(frozen=True)
class PlannedCell:
    """A cell to train, with its levels in the study (factors); a teacher is trained before the cells that need it."""

    spec: CellSpec
    study: str
    variant: str
    factors: Mapping[str, Level]
    role: Role = "cell"

    @cached_property
    def key(self) -> str:
        """The cell's name in queue and record: a hash of its spec."""
        return self.spec.key

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self.spec.seed

    @property
    def epochs(self) -> int:
        """Epochs of training; 1 for a network that is quantized."""
        return 1 if self.spec.is_quantized else self.spec.recipe.epochs

    @property
    def cost(self) -> int:
        """Relative cost, for order and forecasts: multiply-adds of one image's forward pass in training, times epochs.

        Branches that are trained as one convolution add a sixteenth of theirs (reports/branch_count: 13.2 s at k = 16,
        7.5 s at k = 1). A teacher's forward pass counts a third, for it has no backward pass.
        """
        teaching = sum(_cost(teacher.spec).deployed.macs // 3 for teacher in self.teachers)
        cost = _cost(self.spec)
        return (cost.deployed.macs + (cost.train.macs - cost.deployed.macs) // 16 + teaching) * self.epochs

    @property
    def teachers(self) -> tuple["PlannedCell", ...]:
        """The cells that are trained first: teachers without a file, the network to quantize, or to start from."""
        if self.spec.is_quantized:
            return (PlannedCell(self.spec.float32, self.study, self.variant, {"teacher": "float32"}, "teacher"),)
        firsts = [
            (teacher_cell(self.spec, item), item.network, {"teacher": item.network})
            for item in self.spec.recipe.teachers
            if not item.weights
        ]
        if self.spec.recipe.init == PRETRAINING:
            firsts.append((pretraining_cell(self.spec), self.variant, {"classifier": self.variant}))
        return tuple(PlannedCell(spec, self.study, name, factors, "teacher") for spec, name, factors in firsts)

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells that must be complete before this one starts."""
        return tuple(item.key for item in self.teachers)


@dataclass(frozen=True)
class PlannedComparison:
    """A measurement in one process while nothing else runs on the machine; needs are the keys to be complete before."""

    spec: AnySpec
    study: str
    variant: str
    needs: tuple[str, ...] = field(compare=False)
    role: Role = "comparison"
    seed: int = 0

    @cached_property
    def key(self) -> str:
        """The comparison's name in queue and record: a hash of its spec."""
        return self.spec.key

    @property
    def factors(self) -> Mapping[str, Level]:
        """The kind of comparison, instead of levels."""
        return {"comparison": self.spec.kind}

    @property
    def epochs(self) -> int:
        """Rounds, which the progress display counts as epochs."""
        return self.spec.protocol.rounds

    @property
    def cost(self) -> int:
        """Relative cost in the unit of a cell's: four rounds of both forms take about as long as one epoch on digits.

        Exported networks infer single images, which takes a twentieth. A comparison of a plan without cells has no such
        scale: networks times rounds.
        """
        if not isinstance(self.spec, FormsSpec):
            return len(self.spec.entries) * self.epochs
        costs = [_cost(entry.cell) for entry in self.spec.entries]
        images = max(entry.cell.data.train_images for entry in self.spec.entries) or DIGITS
        divisor = 4 * images * (20 if isinstance(self.spec, DeployedSpec) else 1)
        return sum(cost.train.macs + cost.deployed.macs for cost in costs) * self.epochs * DIGITS // divisor

    @property
    def data(self) -> str:
        """The data set whose image size the networks take, or "random"."""
        return self.spec.entries[0].cell.data.name if isinstance(self.spec, FormsSpec) else "random"


Queued = PlannedCell | PlannedComparison


@dataclass(frozen=True)
class Plan(ABC):
    """A study resolved into cells, their teachers, and comparisons; default tells whether it is the study unchanged.

    A subclass resolves one kind of study and is registered in study/kinds.py. A plan whose cells depend on results
    (a search) is not final and overrides resumed and grown.
    """

    kind: ClassVar[str]  # of the plan's JSON
    preload: ClassVar[str] = TRAIN  # module:function, whose module is imported before workers are forked

    study: Declaration
    default: bool = field(default=False, kw_only=True)

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells that the study compares."""
        return ()

    @property
    def teachers(self) -> tuple[PlannedCell, ...]:
        """Cells that are trained first and are no level of the study, each once."""
        return ()

    @property
    def comparison(self) -> PlannedComparison | None:
        """The measurement of all settings side by side, if the study has one."""
        return None

    @property
    def comparisons(self) -> tuple[PlannedComparison, ...]:
        """The measurements, in the order of the study."""
        return (self.comparison,) if self.comparison else ()

    @property
    def curves(self) -> tuple[str, ...]:
        """The metrics whose training curves the report draws."""
        return ()

    @cached_property
    def queued(self) -> tuple[Queued, ...]:
        """Everything that the queue holds: teachers, cells, comparisons."""
        return (*self.teachers, *self.cells, *self.comparisons)

    @property
    def requested(self) -> Self:
        """The plan before any result extended it."""
        return self

    @cached_property
    def id(self) -> str:
        """The plan's name in the record: a hash of everything that was requested."""
        return hashlib.sha256(self.requested.to_json().encode()).hexdigest()[:8]

    @property
    @abstractmethod
    def queue(self) -> str:
        """Name of the queue; plans that may train each other's cells share one."""

    @property
    def declared(self) -> dict[str, Any]:
        """The declaration as JSON content; without the fields that plans did not always have, at their defaults."""
        later = {"first_seed": 0, "task": CellSpec.task, "within": "", "protocol": asdict(Protocol())}
        content = asdict(self.study)
        for factor in content["factors"]:
            _ = factor["labels"] or factor.pop("labels")
        return {name: value for name, value in content.items() if name not in later or value != later[name]}

    @property
    def resolved(self) -> dict[str, Any]:
        """The recorded plan without the declaration, as JSON content."""
        return {"plan": self.kind}

    def to_json(self) -> str:
        """The plan as recorded; kinds.read_plan reads it back."""
        content = {"study": self.declared, "default": self.default, **self.resolved}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    @abstractmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """Read a recorded plan's JSON content. Raises InputError if another version wrote it."""

    @abstractmethod
    def overview(self, states: str) -> list[str]:
        """The lines that --plan prints above the cells; states is a text that counts the cells by state."""

    @property
    def training_lines(self) -> list[str]:
        """Lines on training images, steps and recipes that need more steps; none where the images are not counted."""
        specs = [cell.spec for cell in self.cells]
        runs = dict.fromkeys((spec.recipe, (spec.data.train_images, spec.data.image_size)) for spec in specs)
        counts = [(of[0], recipe.steps_per_epoch(*of), recipe.steps(*of)) for recipe, of in runs if of[0]]
        if not counts:
            return []
        warnings = dict.fromkeys(text for recipe, of in runs for text in recipe.warnings(*of))
        images, per_epoch, total = map(span, zip(*counts, strict=True))
        line = f"{images} training images: {per_epoch} steps per epoch, {total} steps per cell"
        return [line, *(f"warning: {text}" for text in warnings)]

    @property
    def is_final(self) -> bool:
        """Whether all cells are known; a search proposes more until its front is known."""
        return True

    def resumed(self, recorded: Sequence[Self]) -> Self:
        """This plan with the extensions of the recorded plans of the same study and kind."""
        del recorded
        return self

    def grown(self, record: StudyRecord) -> Self:
        """This plan with the cells that follow from its results; the same plan if there are none."""
        del record
        return self

    @property
    def shows_standalone_runs(self) -> bool:
        """Whether its report shows evaluations of checkpoints and latencies of devices, which belong to no plan."""
        return False

    def require_runnable(self) -> None:
        """Raise InputError if a library or runtime is missing, or a network of a library cannot read the images."""
        specs = (cell.spec for cell in self.cells if cell.spec.backbone)
        parts = {(spec.task, spec.backbone, spec.data, spec.model, spec.recipe.sizes): spec for spec in specs}
        for spec in parts.values():
            if task_spec(spec.task).has_head:
                from mobileone_core.training.tasks.backbones import build_backbone  # needs torch

                build_backbone(spec)
            elif spec.recipe.sizes or read_name(BACKBONE, spec.backbone)[0] in LIBRARIES:  # one's own code starts later
                shape = 1, spec.data.channels, spec.data.image_size, spec.data.image_size
                classifier_by_name(BACKBONE, spec.backbone, spec.data.num_classes, shape, spec.recipe.sizes)


def span(values: Iterable[float], digits: str = ",") -> str:
    """Numbers as text: "27", or "27 to 54" from the smallest to the largest."""
    ends = sorted(values)
    return " to ".join(dict.fromkeys(format(end, digits) for end in (ends[0], ends[-1])))


def study_from_json(cls: type[Any], content: Mapping[str, Any], **fields: Any) -> Any:
    """A declaration from its JSON content, with some fields already read. Raises InputError for unknown fields."""
    try:
        if "protocol" in content:
            fields["protocol"] = Protocol(**content["protocol"])
        factors = tuple(Factor(**as_tuples(item)) for item in content["factors"])
        return cls(**{**as_tuples(content), "factors": factors, **fields})
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"plan: written by another version ({error})") from error


def _cost(spec: CellSpec) -> ModelCost:
    return cached_cost(spec.model, spec.data.image_size, spec.data.num_classes)
