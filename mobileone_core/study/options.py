"""The command line of a study as data: groups of options with types, defaults and help texts, and what they request."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from mobileone_core.errors import require
from mobileone_core.fields import help_texts
from mobileone_core.latency.zoo import chosen_networks
from mobileone_core.study.factor import COLUMNS, Factor, Level, level_text
from mobileone_core.study.plan import Plan
from mobileone_core.training.cell import BACKBONE, MULTIPLES, RECIPE
from mobileone_core.training.named_networks import pinned

ROUNDING = {"width": "rounded to a multiple of 8", "depth": "at least one block per stage"}
Option = tuple[str, Any, Any, str]  # name, type, default, help text
Typed = Mapping[str, tuple[Any, Any]]  # type and default by name


@dataclass(frozen=True)
class PlanRequest:
    """The plan of a command line, the local files that its cells read, and lines about an image folder."""

    plan: Plan
    data_root: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)  # weight files by digest
    folder_lines: Sequence[str] = ()


class StudyOptions(ABC):
    """The command line of one kind of study, made for one study.

    It is parsed in two steps: first the presets, then every option with its value under these presets as default.
    """

    trains: ClassVar[bool]  # whether the options of training (workers, device) are offered

    def __init__(self, study: Any) -> None:
        self.study = study

    @abstractmethod
    def presets(self) -> Any:
        """The options of the first step, with their defaults: an instance of a frozen dataclass."""

    @abstractmethod
    def groups(self, presets: Any, *, for_help: bool) -> dict[str, Any]:
        """The groups of options of the second step by name; with for_help, local data may be missing."""

    @abstractmethod
    def request(self, presets: Any, line: Any) -> PlanRequest:
        """The plan of a parsed command line, whose groups are line's attributes. Raises InputError."""

    def level_options(self, parts: Mapping[str, type], more: Sequence[Option] = ()) -> Any:
        """The levels of every factor as options, and more of them; parts are the specs of a cell by name."""
        taken = [*COLUMNS, *(name for name, *_ in more)]
        for factor in self.study.factors:
            require(factor.name not in taken, "name of a factor", factor.name, f"none of {', '.join(taken)}")
        title = "What the study varies: levels" + (", and seeds." if more else ".")
        return option_group(title, [*(_level_option(factor, parts) for factor in self.study.factors), *more])

    def requested_factors(self, levels: Any) -> tuple[Factor, ...]:
        """The study's factors with the levels of a parsed command line."""
        return tuple(_requested(factor, read_levels(getattr(levels, factor.name))) for factor in self.study.factors)


def option_group(title: str, options: Iterable[Option]) -> Any:
    """An instance of a frozen dataclass made of options; title is its docstring."""
    made = [(name, kind, field(default=default, metadata={"help": text})) for name, kind, default, text in options]
    group = make_dataclass("Options", made, frozen=True)
    group.__doc__ = title
    return group()


def spec_options(
    title: str, spec: Any, without: Collection[str] = (), named: Typed | None = None, part: str = ""
) -> Any:
    """Make a group (see option_group) of the spec's fields with a help text, except without; its values are defaults.

    named maps a field to the type and value that its option has instead, such as teachers as text. part is what the
    names of without begin with, such as "model."; other names are ignored.
    """
    hints, texts = get_type_hints(type(spec)), help_texts(type(spec))
    typed = {name: (hints[name], getattr(spec, name)) for name in texts} | dict(named or {})
    shown = {name: text for name, text in texts.items() if f"{part}{name}" not in without}
    return option_group(title, [(name, *typed[name], text) for name, text in shown.items()])


def changed_options(options: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from the values, by name."""
    return {name: value for name, value in vars(options).items() if value != values[name]}


def _requested(factor: Factor, levels: tuple[Level, ...]) -> Factor:
    """The factor with other levels. Groups become their networks, and networks of one's own code get its digest.

    Any network that is trained and any recipe can be the baseline: the first is, if the study's is not given.
    """
    if factor.field == "network.model":
        levels = chosen_networks(levels, factor.baseline)
    if factor.field not in (BACKBONE, RECIPE) or not levels:
        return replace(factor, levels=levels)
    labels = {label: pinned(factor.name, str(value)) for label, value in factor.labels.items()}
    if factor.field == BACKBONE:
        levels = tuple(level if level in labels else pinned(factor.name, str(level)) for level in levels)
    baseline = factor.baseline if factor.baseline in levels else levels[0]
    return replace(factor, levels=levels, labels=labels, baseline=baseline)


def read_levels(texts: Sequence[Level]) -> tuple[Level, ...]:
    """Levels as typed; "0,0,1,1" becomes a tuple of integers."""
    return tuple(
        tuple(map(int, text.split(","))) if isinstance(text, str) and re.fullmatch(r"\d+(,\d+)+", text) else text
        for text in texts
    )


def _level_option(factor: Factor, parts: Mapping[str, type]) -> Option:
    """The option of a factor: what the levels set, and the baseline; levels of several integers are typed as text."""
    part, _, name = factor.field.rpartition(".")
    baseline = level_text(factor.baseline)
    if factor.settings:
        level: Any = Literal[tuple(factor.settings)]
        text = "; ".join(f"{label}: {_label_text(factor, label)}" for label in factor.settings)
        text += f". Baseline {baseline}."
    elif factor.field in MULTIPLES:
        level = float
        text = f"Multiples of the variant's {name}s, {ROUNDING[name]}; baseline {baseline}."
    elif factor.field == RECIPE:
        level, text = str, f"Recipes, as --recipe of other studies takes them; baseline {baseline}, else the first."
    else:
        level = get_type_hints(parts[part])[name]
        text = f"Levels of {factor.field}; baseline {baseline}. {help_texts(parts[part])[name]}"
        text += "".join(f" {label}: {value}." for label, value in factor.labels.items())
        if any(get_origin(item) is tuple for item in (level, *get_args(level))):
            level, text = str, f"{text} Several integers as 0,0,1,1."
    defaults = tuple(level_text(level) if isinstance(level, tuple) else level for level in factor.levels)
    return factor.name, tuple[level, ...], defaults, text


def _label_text(factor: Factor, label: str) -> str:
    """The fields that a label sets, with their values; a label that sets none leaves them to their own options."""
    changes = factor.settings[label]
    if changes:
        return ", ".join(f"{name.partition('.')[2]} {_value_text(value)}" for name, value in changes.items())
    fields = dict.fromkeys(name for changes in factor.settings.values() for name in changes)
    options = [f"--{name.partition('.')[2].replace('_', '-')}" for name in fields]
    return f"set by {' and '.join(options)}"


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value == () else level_text(value)
