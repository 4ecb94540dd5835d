"""A study whose levels are measured side by side, nothing trained: its declaration, and the plan it resolves to."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, LatencySpec, StepSpec, changed_fields
from mobileone_core.benchmark.step_cell import PART, StepCell
from mobileone_core.errors import InputError, require
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.factor import Factor, Level, MeasuredCell, frozen, level_label
from mobileone_core.study.plan import PlannedComparison

View = Literal["levels", "correlation", "backbones", "training"]
OF_STEPS = ("training",)  # the views of steps; all others are of latencies
MARK = "measured"  # the kind of plan, in its JSON


@dataclass(frozen=True)
class MeasuredStudy(Declaration):
    """A study measured in one exclusive process: its replicates are rounds, not seeds.

    base is the cell that the factors vary: a latency, or a training step. A row's ratio refers to the same row with the
    factors named in against at their baselines; all of them where none is named. view is what the report shows beside
    the table.
    """

    base: MeasuredCell = field(default_factory=LatencyCell)
    protocol: Protocol = field(default_factory=Protocol)
    against: tuple[str, ...] = ()
    view: View = "levels"
    curves: ClassVar = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [factor.name for factor in self.factors]
        strange = [name for name in self.against if name not in names]
        require(not strange, "against", strange, f"factors are {', '.join(names)}")
        views = [name for name in get_args(View) if (name in OF_STEPS) == isinstance(self.base, StepCell)]
        require(self.view in views, "view", self.view, f"one of {', '.join(views)}")

    @property
    def metric(self) -> str:
        """What the queue calls its value."""
        return f"{self.base.time_metric}_ms"

    def cell(self, arm: Mapping[str, Level]) -> MeasuredCell:
        """The cell of a combination of levels; InputError where a field refuses its level."""
        cell = self.base
        for factor in self.factors:
            cell = factor.applied(cell, arm[factor.name])
        return cell

    @property
    def arms(self) -> Iterator[dict[str, Level]]:
        """Every combination of levels that can be measured, in the declared order."""
        return (arm for arm in super().arms if not self.cell(arm).gap)

    @property
    def gaps(self) -> dict[str, str]:
        """The others, by label, each with its reason."""
        found = {level_label(arm): self.cell(arm).gap for arm in super().arms}
        return {label: gap for label, gap in found.items() if gap}

    @property
    def compared(self) -> tuple[Factor, ...]:
        """The factors whose baselines are the references."""
        return tuple(factor for factor in self.factors if not self.against or factor.name in self.against)

    def reference_of(self, arm: Mapping[str, Level]) -> dict[str, Level]:
        """The arm that another one's ratio refers to."""
        compared = [factor.name for factor in self.compared]
        return {name: self.baseline[name] if name in compared else level for name, level in arm.items()}


@dataclass(frozen=True)
class MeasuredPlan:
    """A measured study resolved: one comparison holds all its arms. default: its settings are the study's own."""

    study: MeasuredStudy
    default: bool = False
    cells: tuple[()] = ()
    teachers: tuple[()] = ()

    def __post_init__(self) -> None:
        for factor in self.study.compared:
            if factor.baseline not in factor.levels:
                allowed = f"the baseline level {factor.baseline!r} must be among the levels"
                raise InputError.of(factor.name, list(factor.levels), allowed)
        labels: dict[MeasuredCell, str] = {}
        for arm in self.spec.entries:
            other = labels.setdefault(arm.cell, arm.label)
            if other != arm.label:
                raise InputError(f"levels: {other} and {arm.label} are the same network in the same runtime")

    @cached_property
    def spec(self) -> LatencySpec | StepSpec:
        """All arms, in the order of the levels."""
        kind = StepSpec if isinstance(self.study.base, StepCell) else LatencySpec
        return kind(tuple(map(self._arm, self.study.arms)), self.study.protocol)

    def _arm(self, arm: Mapping[str, Level]) -> Entry[Any]:
        return Entry(level_label(arm), arm, self.study.cell(arm), level_label(self.study.reference_of(arm)))

    @cached_property
    def comparison(self) -> PlannedComparison:
        """The one measurement."""
        return PlannedComparison(self.spec, self.study.name, "", needs=())

    @property
    def queued(self) -> tuple[PlannedComparison, ...]:
        return (self.comparison,)

    @property
    def queue(self) -> str:
        """Where it waits: the study's own name for its own settings, else a queue a setting."""
        return self.study.name if self.default else f"{self.study.name}-{self.comparison.key[:6]}"

    @property
    def id(self) -> str:
        """The plan's name: a hash of all it declares."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:8]

    def to_json(self) -> str:
        """The declaration as recorded; from_json resolves the same comparison from it."""
        study = {item.name: getattr(self.study, item.name) for item in dataclasses.fields(self.study)}
        study |= {"base": self.study.base.to_dict(), "protocol": changed_fields(self.study.protocol)}
        study["factors"] = [dataclasses.asdict(factor) for factor in self.study.factors]
        content = {"plan": MARK, "study": study, "default": self.default}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "MeasuredPlan":
        """Read a plan; InputError where another version wrote it."""
        content = json.loads(text)
        study: dict[str, Any] = content["study"]
        try:
            study["factors"] = tuple(Factor(**frozen(item)) for item in study["factors"])
            study |= {"base": _cell(study["base"]), "protocol": Protocol(**study["protocol"])}
            study["against"] = tuple(study["against"])
            return cls(MeasuredStudy(**study), content["default"])
        except (KeyError, TypeError) as error:
            raise InputError(f"plan: written by another version ({error})") from error


def _cell(content: dict[str, Any]) -> MeasuredCell:
    kind = StepCell if content["kind"] == PART else LatencyCell
    return kind.from_dict(content)
