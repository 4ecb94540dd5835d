"""Options of a study's command line. Imports nothing heavy."""

import dataclasses
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from mobileone_core.cli.home import runs_home
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor, Study, preset_cell
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Recipe

RECIPE_OF_DATA = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar"}  # the others take the paper's
FOLLOWING = {"in_channels", "phases"}  # these follow from the data and from the recipe's name
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)


@dataclass(frozen=True)
class Presets:
    """The presets that the remaining options start from."""

    variant: str
    """Network: s0 to s4 as published, or tiny, ours for laptops."""
    data: str
    """Data set: digits (embedded), cifar10, cifar100, imagenette, imagenet or folder."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Directory that holds the data set."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Recipe: digits, cifar or paper; the data's own where not given."""


@dataclass(frozen=True)
class Running:
    """How and where it runs; no part of what is measured."""

    plan: bool = False
    """Print every cell and its state; start nothing, create no file."""
    join: bool = False
    """Take cells from an existing queue and plan nothing: what a second machine runs."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Processes that train side by side; one a GPU, else cores / threads, where not given."""
    threads: int = 1
    """Threads a cell."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    channels_last: bool = False
    """Train in channels-last memory format."""
    compile: bool = False
    """Train with torch.compile."""
    runs: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Queue, record and checkpoints; runs/ of this workspace where not given."""
    reports: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Report; reports/ of this workspace for the default study, else reports/ in the runs directory."""
    queue: str = ""
    """Optuna storage URL; optuna.db in the runs directory where not given."""
    tracking: str = ""
    """MLflow tracking URI; mlflow.db in the runs directory where not given."""

    @property
    def execution(self) -> Execution:
        return Execution(self.device, self.threads, self.channels_last, self.compile)

    @property
    def workspace(self) -> Workspace:
        return Workspace.at(self.runs or runs_home(), self.queue, self.tracking)

    @property
    def worker_count(self) -> int:
        """Workers asked for, or one a GPU that may be used, or as many as the cores carry."""
        if self.workers is None:
            return _gpus(self.device) or max(1, _cores() // self.execution.threads)
        require(self.workers >= 1, "workers", self.workers, "an integer of 1 or more")
        return self.workers


def _cores() -> int:
    """Cores that this process may use; macOS counts them all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus(device: str) -> int:
    """GPUs that cells may spread over, as the driver lists them: asking torch takes seconds."""
    if device == "cpu":
        return 0
    listed = Path("/proc/driver/nvidia/gpus")
    found = len(list(listed.iterdir())) if listed.is_dir() else 0
    return min(found, 1) if ":" in device else found


@dataclass(frozen=True)
class Command:
    """A parsed command line: what to study, and how to run it."""

    presets: Presets
    running: Running
    study: Study
    base: CellSpec


def parse(study: Study, arguments: Sequence[str]) -> Command:
    """Read a study's command line in two steps: the presets, then all else with their values as defaults.

    tyro prints the help, or one box that says what is wrong, and exits with status 2.
    """
    presets, _ = tyro.cli(
        Presets,
        args=[item for item in arguments if item not in ("-h", "--help")],
        default=Presets(study.variant, study.data),
        return_unknown_args=True,
        add_help=False,
        config=CONFIG,
    )
    recipe = presets.recipe or own_recipe(study, presets.data)
    preset = preset_cell(presets.variant, _data(presets, arguments), recipe)
    line: Any = tyro.cli(
        _command_line(study, presets, preset),
        args=arguments,
        description=f"{study.question} ({study.source})",
        config=CONFIG,
    )
    factors = tuple(replace(item, levels=getattr(line.levels, item.name)) for item in study.factors)
    named = {"variant": presets.variant, "data": presets.data, "recipe": recipe}
    asked = replace(study, factors=factors, seeds=line.levels.seeds, **named)
    network = preset.model.changed(**_differing(preset.model, line.network))
    training = replace(preset.recipe, **_differing(preset.recipe, line.training))
    return Command(presets, line.running, asked, CellSpec(network, preset.data, training))


def _data(presets: Presets, arguments: Sequence[str]) -> DataSpec:
    """The data set named; the help does without one that is not there."""
    try:
        return resolve_data(presets.data, presets.data_root)
    except InputError:
        if {"-h", "--help"} & set(arguments):
            return DataSpec()
        raise


def own_recipe(study: Study, data: str) -> str:
    """The recipe that a data set takes unless one is named."""
    return study.recipe if data == study.data else RECIPE_OF_DATA.get(data, "paper")


def _command_line(study: Study, presets: Presets, preset: CellSpec) -> type:
    varied = {factor.field for factor in study.factors}
    groups = {
        "presets": presets,
        "levels": _levels(study),
        "network": _fields(preset.model, "Fields of the network.", _names(varied, "model")),
        "training": _fields(preset.recipe, "Fields of the recipe.", _names(varied, "recipe")),
        "running": Running(),
    }
    fields = [(name, type(group), field(default=group)) for name, group in groups.items()]
    return dataclasses.make_dataclass("CommandLine", fields, frozen=True)


def _levels(study: Study) -> Any:  # noqa: ANN401
    fields = [(item.name, _level_type(item), field(default=item.levels)) for item in study.factors]
    kind = dataclasses.make_dataclass("Levels", [*fields, ("seeds", int, study.seeds)], frozen=True)
    kind.__doc__ = "What the study varies: levels, and seeds a level."
    return kind()


def _level_type(factor: Factor) -> Any:  # noqa: ANN401
    part, _, name = factor.field.partition(".")
    level = get_type_hints({"model": ModelSpec, "recipe": Recipe}[part])[name]
    return tuple[level, ...]  # type: ignore[valid-type]


def _names(varied: Collection[str], part: str) -> set[str]:
    return FOLLOWING | {name.removeprefix(f"{part}.") for name in varied if name.startswith(f"{part}.")}


def _fields(spec: ModelSpec | Recipe, text: str, without: Collection[str]) -> Any:  # noqa: ANN401
    """The fields of a spec as options of their own, their values as defaults."""
    hints = get_type_hints(type(spec))
    fields = [(name, hint, field(default=getattr(spec, name))) for name, hint in hints.items() if name not in without]
    kind = dataclasses.make_dataclass(type(spec).__name__, fields, frozen=True)
    kind.__doc__ = text
    return kind()


def _differing(preset: ModelSpec | Recipe, options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The options that are not as the preset has them."""
    return {name: value for name, value in vars(options).items() if value != getattr(preset, name)}
