"""Options of a study's command line. Imports nothing heavy."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from mobileone_core.cli.options.fields import (
    FOLLOWING,
    differing,
    field_options,
    level_options,
    read_levels,
    recipe_by_name,
    search_options,
    training_asked,
)
from mobileone_core.cli.paths import runs_home
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import BlockExecution, ModelSpec
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import fields_of
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.search import STAGES, SearchStudy
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Recipe, Teacher

RECIPE_OF_DATA = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar"}  # the others take the paper's
TAUGHT = ("teachers", "temperature", "hard_label_weight")  # a search has no teachers
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)


@dataclass(frozen=True)
class Presets:
    """The presets that the remaining options start from."""

    variant: str
    """Network: s0 to s4 as published; tiny and small, ours, for laptops."""
    data: str
    """Data set: digits (embedded), cifar10, cifar100, imagenette, imagenet or folder."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Directory that holds the data set."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Resolution that images are read at, to which network and phases are fitted; the data's own where not given."""
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
    """Cells that train side by side; GPUs, else cores / threads, divided by processes, where not given."""
    processes: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that train one cell together, data-parallel; each has a GPU of its own, or a CPU."""
    threads: int = 1
    """Threads a process."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    channels_last: bool = False
    """Train in channels-last memory format."""
    compile: bool = False
    """Train with torch.compile."""
    blocks: BlockExecution = "auto"
    """How a block trains: every branch by itself, all folded into one convolution (exact), or the faster of both."""
    sync_batchnorm: bool = False
    """Normalize by the whole batch of all processes, not by each one's share; needs blocks folded or auto."""
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
        switches = self.channels_last, self.compile
        return Execution(self.device, self.threads, *switches, self.processes, self.blocks, self.sync_batchnorm)

    @property
    def workspace(self) -> Workspace:
        return Workspace.at(self.runs or runs_home(), self.queue, self.tracking)

    @property
    def worker_count(self) -> int:
        """Workers asked for, or as many as the GPUs that may be used, or else the cores, carry."""
        if self.workers is None:
            return max(1, (_gpus(self.device) or _cores() // self.execution.threads) // self.execution.processes)
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
    """A parsed command line: what to study, and how to run it; teachers names the files of their weights."""

    presets: Presets
    running: Running
    study: Study | SearchStudy
    base: CellSpec
    teachers: Mapping[Teacher, Path]


def parse(study: Study | SearchStudy, arguments: Sequence[str]) -> Command:
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
    preset = preset_cell(presets.variant, _data(presets, arguments), recipe, study.base)
    line: Any = tyro.cli(
        _command_line(study, presets, preset),
        args=arguments,
        description=f"{study.question} ({study.source})",
        config=CONFIG,
    )
    factors = tuple(replace(item, levels=read_levels(getattr(line.levels, item.name))) for item in study.factors)
    named = {"variant": presets.variant, "data": presets.data, "recipe": recipe}
    searched = vars(line.search) if isinstance(study, SearchStudy) else {}
    changes: dict[str, Any] = {**named, **searched, "factors": factors, "seeds": line.levels.seeds}
    asked: Study | SearchStudy = replace(study, **changes)
    network = preset.model.changed(**differing(fields_of(preset.model), line.network))
    training, files = training_asked(preset, line.training)
    return Command(presets, line.running, asked, CellSpec(network, preset.data, training), files)


def _data(presets: Presets, arguments: Sequence[str]) -> DataSpec:
    """The data set named; the help does without one that is not there."""
    try:
        return resolve_data(presets.data, presets.data_root, presets.image_size)
    except InputError:
        if {"-h", "--help"} & set(arguments):
            return DataSpec()
        raise


def own_recipe(study: Study | SearchStudy, data: str) -> str:
    """The recipe that a data set takes unless one is named."""
    return study.recipe if data == study.data else RECIPE_OF_DATA.get(data, "paper")


def _command_line(study: Study | SearchStudy, presets: Presets, preset: CellSpec) -> type:
    varied = {name for factor in study.factors for name in factor.fields}
    search: dict[str, Any] = {}
    if isinstance(study, SearchStudy):
        varied |= {f"model.{name}" for name in STAGES} | {f"recipe.{name}" for name in TAUGHT}
        search = {"search": search_options(study)}
    groups = {
        "presets": presets,
        "levels": level_options(study),
        **search,
        "network": field_options(ModelSpec, "Fields of the network.", fields_of(preset.model), _names(varied, "model")),
        "training": field_options(Recipe, "Fields of the recipe.", recipe_by_name(preset), _names(varied, "recipe")),
        "running": Running(),
    }
    fields = [(name, type(group), field(default=group)) for name, group in groups.items()]
    return dataclasses.make_dataclass("CommandLine", fields, frozen=True)


def _names(varied: Collection[str], part: str) -> set[str]:
    return FOLLOWING | {name.removeprefix(f"{part}.") for name in varied if name.startswith(f"{part}.")}
