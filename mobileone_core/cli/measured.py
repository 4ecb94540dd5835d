"""The command line of a study that is measured and trains nothing. Imports nothing heavy."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tyro

from mobileone_core.cli.fields import differing, field_options, level_options, read_levels
from mobileone_core.cli.help import MEASURED_HELP
from mobileone_core.cli.options import CONFIG
from mobileone_core.cli.places import Directory, Places
from mobileone_core.latency.cell import Runtime
from mobileone_core.latency.protocol import Protocol
from mobileone_core.study.factor import fields_of
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy


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
    changes = {f"network.{name}": value for name, value in _changed(study.base.network, line.network).items()}
    changes |= {f"runtime.{name}": value for name, value in _changed(study.base.runtime, line.runtime).items()}
    changes |= {name: value for name, value in vars(line.images).items() if value is not None}
    protocol = replace(start, **_changed(start, line.timing))
    asked = replace(study, factors=factors, base=study.base.changed(changes), protocol=protocol)
    return MeasuredCommand(MeasuredPlan(asked, default=asked == study), line.running)


def _changed(spec: Any, options: Any) -> dict[str, Any]:  # noqa: ANN401
    return differing(fields_of(spec), options)


def _command_line(study: MeasuredStudy, preset: Preset) -> type:
    varied = {name for factor in study.factors for name in factor.named}
    network, runtime = study.base.network, study.base.runtime
    images = dataclasses.make_dataclass(
        "Images",
        [] if "image_size" in varied else [("image_size", int, field(default=study.base.image_size))],
        frozen=True,
    )
    images.__doc__ = "The images."
    groups = {
        "levels": level_options(study),
        "network": _options(type(network), "Fields of the network.", network, _of(varied, "network")),
        "runtime": _options(Runtime, "How a network is executed.", runtime, _of(varied, "runtime") | {"name"}),
        "preset": preset,
        "timing": _options(Protocol, "How it is timed: fields of the protocol.", study.protocol, set()),
        "images": images(),
        "running": MeasuredRunning(),
    }
    fields = [(name, type(group), field(default=group)) for name, group in groups.items()]
    return dataclasses.make_dataclass("CommandLine", fields, frozen=True)


def _options(kind: type, text: str, spec: Any, without: set[str]) -> Any:  # noqa: ANN401
    return field_options(kind, text, fields_of(spec), without, MEASURED_HELP)


def _of(varied: set[str], part: str) -> set[str]:
    return {name.removeprefix(f"{part}.") for name in varied if name.startswith(f"{part}.")}
