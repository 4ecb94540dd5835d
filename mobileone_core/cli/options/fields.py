"""Options made from data: a study's levels, and every field of the network and the recipe. Imports nothing heavy."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from mobileone_core.cli.options.help import HELP, SEARCH_HELP, SEEDS, level_help
from mobileone_core.cli.options.teachers import named_teachers
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Factor, Level, fields_of, level_text
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.study.presets import Phases, phases_named
from mobileone_core.study.search import SearchStudy
from mobileone_core.training.cell import MULTIPLES, CellSpec
from mobileone_core.training.recipe import Recipe, Teacher

TRAINED: Mapping[str, type] = {"model": ModelSpec, "recipe": Recipe}
FOLLOWING = {"in_channels"}  # it follows from the data
NAMED = {"phases": Phases, "teachers": tuple[str, ...]}  # fields of the recipe whose options are names


def read_levels(texts: Sequence[Level]) -> tuple[Level, ...]:
    """Levels as given; those of several integers are written 0,0,1,1."""
    return tuple(map(_read, texts))


def _read(text: Level) -> Level:
    if isinstance(text, str) and re.fullmatch(r"\d+(,\d+)+", text):
        return tuple(map(int, text.split(",")))
    return text


def level_options(study: Study | MeasuredStudy | SearchStudy) -> Any:  # noqa: ANN401
    parts = TRAINED
    if isinstance(study, MeasuredStudy):
        parts = {name: type(part) for name, part in study.base.parts.items()}
    fields: list[tuple[str, Any, Any]] = [
        (item.name, _level_option(item, parts), field(default=_written(item.levels))) for item in study.factors
    ]
    if not isinstance(study, MeasuredStudy):
        text = SEARCH_HELP["seeds"] if isinstance(study, SearchStudy) else SEEDS
        fields.append(("seeds", _explained(int, text), field(default=study.seeds)))
    kind = dataclasses.make_dataclass("Levels", fields, frozen=True)
    kind.__doc__ = "What the study varies: levels" + ("." if isinstance(study, MeasuredStudy) else ", and seeds.")
    return kind()


def search_options(study: SearchStudy) -> Any:  # noqa: ANN401
    """How a study is searched, as options."""
    hints = get_type_hints(SearchStudy)
    texts = {name: text for name, text in SEARCH_HELP.items() if name != "seeds"}
    fields = [
        (name, _explained(hints[name], text), field(default=getattr(study, name))) for name, text in texts.items()
    ]
    kind = dataclasses.make_dataclass("Search", fields, frozen=True)
    kind.__doc__ = "How it is searched."
    return kind()


def _written(levels: Sequence[Level]) -> tuple[Level, ...]:
    return tuple(level_text(level) if isinstance(level, tuple) else level for level in levels)


def _explained(kind: Any, text: str) -> Any:  # noqa: ANN401
    return Annotated[kind, tyro.conf.arg(help=text)]


def _level_option(factor: Factor, parts: Mapping[str, type]) -> Any:  # noqa: ANN401
    """The type of a factor's levels, with its help; a field that takes several integers takes words."""
    part, _, name = factor.field.partition(".")
    typed = False
    if factor.settings:
        level: Any = Literal[tuple(factor.settings)]
    elif factor.field in MULTIPLES:
        level = float
    else:
        level = get_type_hints(parts[part])[name] if name else int
        typed = any(get_origin(item) is tuple for item in (level, *get_args(level)))
        level = str if typed else level
    return _explained(tuple[level, ...], level_help(factor, typed=typed))


def recipe_by_name(preset: CellSpec) -> dict[str, Any]:
    """The recipe's fields as their options have them: phases and teachers by name."""
    recipe = preset.recipe
    is_paper = recipe.phases and recipe.phases == phases_named("paper", preset.data.image_size)
    named = {"phases": "paper" if is_paper else "none", "teachers": tuple(item.network for item in recipe.teachers)}
    return fields_of(recipe) | named


def training_asked(preset: CellSpec, options: Any) -> tuple[Recipe, Mapping[Teacher, Path]]:  # noqa: ANN401
    """The recipe asked for, and the files of its teachers' weights."""
    changes = differing(recipe_by_name(preset), options)
    files: Mapping[Teacher, Path] = {}
    if "phases" in changes:
        changes["phases"] = phases_named(changes["phases"], preset.data.image_size)
    if "teachers" in changes:
        changes["teachers"], files = named_teachers(changes["teachers"])
    return preset.recipe.changed(**changes), files


def field_options(
    kind: type, text: str, values: Mapping[str, Any], without: Collection[str], texts: Mapping[str, str] = HELP
) -> Any:  # noqa: ANN401
    """The fields of a spec as options of their own, with values as defaults and texts as their help."""
    hints = {name: NAMED.get(name, hint) for name, hint in get_type_hints(kind).items() if name not in without}
    fields = [(name, _explained(hint, texts[name]), field(default=values[name])) for name, hint in hints.items()]
    options = dataclasses.make_dataclass(kind.__name__, fields, frozen=True)
    options.__doc__ = text
    return options()


def differing(preset: Mapping[str, Any], options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The options that are not as the preset has them."""
    return {name: value for name, value in vars(options).items() if value != preset[name]}
