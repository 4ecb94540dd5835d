"""A study whose levels are measured side by side and not trained: its declaration, its plan, its command line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.benchmark.spec import PART, Entry, LatencySpec, StepCell, StepSpec, changed_fields
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.fields import help_texts
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.model.libraries import require_listed, split_name
from mobileone_core.study.declaration import Declaration, require_baselines
from mobileone_core.study.factor import MEASURED_FIELDS, Factor, Level, MeasuredCell, level_label
from mobileone_core.study.options import PlanRequest, StudyOptions, changed_options, option_group, spec_options
from mobileone_core.study.plan import Plan, PlannedComparison, study_from_json
from mobileone_core.study.workspace import MEASURE

View = Literal["levels", "correlation", "backbones", "training"]
STEP_VIEWS = ("training",)  # the others show latencies
TITLES = {
    "network": "Fields of the network.",
    "runtime": "How a network is executed.",
    "step": "What a step is, and where it runs.",
}


@dataclass(frozen=True)
class MeasuredStudy(Declaration):
    """A study measured in one process while nothing else runs, in rounds instead of seeds. Raises InputError.

    Args:
        base: the cell that the factors vary: a latency, or a training step.
        protocol: how calls are timed.
        against: the factors whose baselines are the reference of a row's ratio; all factors if empty.
        view: what the report shows besides the table.
    """

    base: MeasuredCell = field(default_factory=LatencyCell)
    protocol: Protocol = field(default_factory=Protocol)
    against: tuple[str, ...] = ()
    view: View = "levels"

    def __post_init__(self) -> None:
        super().__post_init__()
        for factor in self.factors:
            for name in factor.set_fields:
                require_choice(f"{factor.name}, field", name, MEASURED_FIELDS)
        names = [factor.name for factor in self.factors]
        unknown = [name for name in self.against if name not in names]
        require(not unknown, "against", unknown, f"factors are {', '.join(names)}")
        views = [name for name in get_args(View) if (name in STEP_VIEWS) == isinstance(self.base, StepCell)]
        require_choice("view", self.view, views)

    @property
    def metric(self) -> str:
        """The metric of the record that the levels are compared by."""
        return f"{self.base.time_metric}_ms"

    @property
    def settings(self) -> Iterator[dict[str, Level]]:
        """Every combination of levels that can be measured, in the declared order."""
        return (setting for setting in super().settings if not self.applied(self.base, setting).gap)

    @property
    def gaps(self) -> dict[str, str]:
        """The combinations that cannot be measured, by label, each with the reason."""
        reasons = {level_label(setting): self.applied(self.base, setting).gap for setting in super().settings}
        return {label: reason for label, reason in reasons.items() if reason}

    @property
    def compared(self) -> tuple[Factor, ...]:
        """The factors whose baselines are the references."""
        return tuple(factor for factor in self.factors if not self.against or factor.name in self.against)


@dataclass(frozen=True)
class MeasuredPlan(Plan):
    """A MeasuredStudy resolved: one comparison with an entry per setting. Raises InputError."""

    kind: ClassVar[str] = "measured"
    preload: ClassVar[str] = MEASURE

    study: MeasuredStudy

    def __post_init__(self) -> None:
        require_baselines(self.study.compared)
        labels: dict[MeasuredCell, str] = {}
        for entry in self.spec.entries:
            if (other := labels.setdefault(entry.cell, entry.label)) != entry.label:
                raise InputError(f"levels: {other} and {entry.label} are the same network in the same runtime")

    @cached_property
    def spec(self) -> LatencySpec | StepSpec:
        """An entry per setting, in the order of the levels."""
        study = self.study
        references = {factor.name: factor.baseline for factor in study.compared}
        entries = tuple(
            Entry[Any](level_label(levels), levels, study.applied(study.base, levels), level_label(levels | references))
            for levels in study.settings
        )
        return (StepSpec if isinstance(study.base, StepCell) else LatencySpec)(entries, study.protocol)

    @cached_property
    def comparison(self) -> PlannedComparison:
        """The planned measurement of all entries side by side; nothing must be complete before it."""
        return PlannedComparison(self.spec, self.study.name, "", needs=())

    @property
    def queue(self) -> str:
        """The study's name for the study unchanged, else with a hash of what is measured."""
        return self.study.name if self.default else f"{self.study.name}-{self.comparison.key[:6]}"

    @property
    def declared(self) -> dict[str, Any]:
        """The declaration as JSON content; of base and protocol the fields that differ from the defaults."""
        study = self.study
        return super().declared | {"base": study.base.to_dict(), "protocol": changed_fields(study.protocol)}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "MeasuredPlan":
        """Read a recorded plan's JSON content. Raises InputError if another version wrote it."""
        cell_type = StepCell if content["study"]["base"]["kind"] == PART else LatencyCell
        base = cell_type.from_dict(content["study"]["base"])
        study = study_from_json(MeasuredStudy, content["study"], base=base)
        return cls(study, default=content["default"])

    def overview(self, states: str) -> list[str]:
        """The lines of --plan: the comparison's state (states), protocol, entries, and what cannot be measured."""
        protocol, entries, base = self.study.protocol, self.spec.entries, self.study.base
        return [
            f"{self.study.name}: {len(entries)} networks side by side; {states}",
            f"{protocol.rounds} rounds of {protocol.burst} calls, {base.threads} threads per call, {base.size_text}",
            *(f"  {entry.label}" for entry in entries),
            *(f"  not measured: {label}: {why}" for label, why in self.study.gaps.items()),
        ]

    @property
    def shows_standalone_runs(self) -> bool:
        """Whether its report shows evaluations of checkpoints and latencies of devices."""
        return self.study.view == "backbones"

    def require_runnable(self) -> None:
        """Raise InputError if this machine lacks a runtime or a device."""
        if isinstance(self.spec, StepSpec):
            from mobileone_core.benchmark.subjects.step import step_device

            for entry in self.spec.entries:
                step_device(entry.cell)
        else:
            from mobileone_core.latency.runtimes import require_runtime

            for runtime in dict.fromkeys(entry.cell.runtime for entry in self.spec.entries):
                require_runtime(runtime)
            for name in (getattr(entry.cell.parts["network"], "model", "") for entry in self.spec.entries):
                if any(split_name(name)):
                    require_listed("networks", name)


class MeasuredOptions(StudyOptions):
    """The command line of a MeasuredStudy: levels, fields of the cell and fields of the protocol."""

    trains: ClassVar[bool] = False
    study: MeasuredStudy

    def presets(self) -> Any:
        """The protocol by name."""
        text = "interleaved, ours, or modelbench, that of the authors' app; the study's if not given."
        named = ("protocol", Literal["interleaved", "modelbench"] | None, None, text)
        return option_group("The protocol that the fields of timing start from.", [named])

    def groups(self, presets: Any, *, for_help: bool) -> dict[str, Any]:
        """Levels, the parts of the cell, timing, and the images of a latency (a step has them among its fields)."""
        del for_help
        base, hidden = self.study.base, {"runtime.name"}.union(*(factor.set_fields for factor in self.study.factors))
        texts, names = help_texts(LatencyCell), ("image_size", "batch_size") if isinstance(base, LatencyCell) else ()
        sizes = [(name, int, getattr(base, name), texts[name]) for name in names if name not in hidden]
        protocol = self.study.protocol if presets.protocol is None else PROTOCOLS[presets.protocol]
        types = {name: type(part) for name, part in base.parts.items()} | {"": type(base)}
        return {
            "levels": self.level_options(types),
            **{name: spec_options(TITLES[name], part, hidden, part=f"{name}.") for name, part in base.parts.items()},
            "timing": spec_options("How it is timed: fields of the protocol.", protocol),
            "images": option_group("The images.", sizes),
        }

    def request(self, presets: Any, line: Any) -> PlanRequest:
        """The plan of a parsed command line; default if it is the study unchanged. Raises InputError."""
        del presets  # the options of timing start from its protocol
        changes = {
            f"{part}.{name}": value
            for part, spec in self.study.base.parts.items()
            for name, value in changed_options(getattr(line, part), vars(spec)).items()
        }
        study = replace(
            self.study,
            factors=self.requested_factors(line.levels),
            base=self.study.base.changed(changes | vars(line.images)),
            protocol=Protocol(**vars(line.timing)),
        )
        return PlanRequest(MeasuredPlan(study, default=study == self.study))
