"""The command line of a study that is measured and trains nothing. Imports nothing heavy."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tyro

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.cli.options.fields import differing, field_options, level_options, read_levels
from mobileone_core.cli.options.help import HELP_OF, MEASURED_HELP
from mobileone_core.cli.options.study import CONFIG
from mobileone_core.cli.options.workspace import Directory, Places
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.study.factor import fields_of
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy

PARTS = {
    "network": "Fields of the network.",
    "runtime": "How a network is executed.",
    "step": "What a step is, and where it runs.",
}
WITHOUT = {"runtime": {"name"}}  # a level where it is chosen at all


@dataclass(frozen=True)
class Preset:
    """The protocol that the fields of timing start from."""

    protocol: Literal["interleaved", "modelbench"] | None = None
    """interleaved, ours, or modelbench, that of the authors' app; the study's own where not given."""


@dataclass(frozen=True)
class MeasuredRunning(Places):
    """Where it runs; no part of what is measured."""

    plan: bool = False
    """Print what is measured and its state; start nothing, create no file."""
    join: bool = False
    """Take the measurement from an existing queue and plan nothing."""
    reports: Directory = None
    """Report; reports/ of this workspace for the default study, else reports/ in the runs directory."""


@dataclass(frozen=True)
class MeasuredCommand:
    """A parsed command line: what is measured, and where it runs."""

    plan: MeasuredPlan
    running: MeasuredRunning


def parse_measured(study: MeasuredStudy, arguments: Sequence[str]) -> MeasuredCommand:
    """Read a measured study's command line; default where it comes to the study's own settings.

    tyro prints the help, or one box that says what is wrong, and exits with status 2.
    """
    preset, _ = tyro.cli(
        Preset,
        args=[item for item in arguments if item not in ("-h", "--help")],
        return_unknown_args=True,
        add_help=False,
        config=CONFIG,
    )
    start = study.protocol if preset.protocol is None else Protocol.preset(preset.protocol)
    line: Any = tyro.cli(
        _command_line(replace(study, protocol=start), preset),
        args=arguments,
        description=f"{study.question} ({study.source})",
        config=CONFIG,
    )
    factors = tuple(replace(item, levels=read_levels(getattr(line.levels, item.name))) for item in study.factors)
    changes = {
        f"{part}.{name}": value
        for part, spec in study.base.parts.items()
        for name, value in _changed(spec, getattr(line, part)).items()
    }
    changes |= vars(line.images)
    protocol = replace(start, **_changed(start, line.timing))
    asked = replace(study, factors=factors, base=study.base.changed(changes), protocol=protocol)
    return MeasuredCommand(MeasuredPlan(asked, default=asked == study), line.running)


def _changed(spec: Any, options: Any) -> dict[str, Any]:  # noqa: ANN401
    return differing(fields_of(spec), options)


def _command_line(study: MeasuredStudy, preset: Preset) -> type:
    varied = {name for factor in study.factors for name in factor.named}
    groups = {
        "levels": level_options(study),
        **{name: _part(name, part, varied) for name, part in study.base.parts.items()},
        "preset": preset,
        "timing": _options("How it is timed: fields of the protocol.", study.protocol, set(), MEASURED_HELP),
        "images": _images(study, varied),
        "running": MeasuredRunning(),
    }
    fields = [(name, type(group), field(default=group)) for name, group in groups.items()]
    return dataclasses.make_dataclass("CommandLine", fields, frozen=True)


def _part(name: str, part: Any, varied: set[str]) -> Any:  # noqa: ANN401
    """The fields of a part of the cell that no factor sets."""
    without = _of(varied, name) | WITHOUT.get(name, set())
    return _options(PARTS[name], part, without, HELP_OF.get(name, MEASURED_HELP))


def _images(study: MeasuredStudy, varied: set[str]) -> Any:  # noqa: ANN401
    """The size of a latency's image; a step has it among its fields."""
    has_size = isinstance(study.base, LatencyCell) and "image_size" not in varied
    fields = [("image_size", int, field(default=study.base.image_size))] if has_size else []
    images = dataclasses.make_dataclass("Images", fields, frozen=True)
    images.__doc__ = "The images."
    return images()


def _options(text: str, spec: Any, without: set[str], texts: Mapping[str, str]) -> Any:  # noqa: ANN401
    return field_options(type(spec), text, fields_of(spec), without, texts)


def _of(varied: set[str], part: str) -> set[str]:
    return {name.removeprefix(f"{part}.") for name in varied if name.startswith(f"{part}.")}
