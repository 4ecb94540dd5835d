"""The command line of a study: parsed in two steps from the options that its kind declares."""

import dataclasses
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from mobileone_core.cli.guard import parsed
from mobileone_core.cli.options.workspace import Directory, WorkspaceOptions, reports_directory
from mobileone_core.errors import require, require_integer
from mobileone_core.fields import POSITIVE, help_texts
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.kinds import options_of
from mobileone_core.study.options import PlanRequest, StudyOptions, option_group, spec_options
from mobileone_core.study.run.slurm import SlurmOptions
from mobileone_core.study.workspace import is_server
from mobileone_core.training.execution import Execution

Switch = tyro.conf.FlagCreatePairsOff[bool]
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
FLAGS: dict[Any, dict[str, Any]] = {("model", tuple[str, ...]): {"name": "networks", "aliases": ("--model",)}}
METAVARS = {int | Literal["auto"]: "N|auto", Path | None: "DIR", int | None: "N", str | None: "NAME"}


@dataclass(frozen=True)
class RunOptions(WorkspaceOptions):
    """Where it runs, and what is done; no part of what is measured."""

    plan: Switch = False  # Print every cell and its state; start nothing, create no file.
    join: Switch = False  # Take cells from an existing queue and plan nothing: what a second machine runs.
    again: Switch = False  # Measure once more, such as times that other work disturbed; trained cells stay.
    reports: Directory = None
    """Report; reports/ of this workspace for the default study, else reports/ in the runs directory."""
    launcher: Literal["local", "slurm"] = "local"  # Where it runs: on this machine, or as an array of Slurm jobs.
    slurm: SlurmOptions = field(default_factory=SlurmOptions)

    def run_weights(self, run: str) -> Path:
        """The weight file of a finished run, by its id or the beginning of it. Raises InputError."""
        from mobileone_core.study.record.reading import read_run

        is_near = not (self.plan and is_server(self.workspace.tracking))
        require(is_near, "plan", run, "weights on this machine: --plan fetches nothing from a server")
        return read_run(self.workspace.tracking, run, self.workspace.runs / "init" / run).weights


@dataclass(frozen=True)
class TrainingRunOptions(RunOptions):
    """Where and how it runs; no part of what is measured."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Cells that train side by side; GPUs, else cores / threads, divided by processes, if not given."""


@dataclass(frozen=True)
class Command:
    """A parsed command line: what is requested, and how it runs."""

    request: PlanRequest
    running: RunOptions
    execution: Execution = field(default_factory=Execution)
    workers: int = 1


def parse(study: Declaration, arguments: Sequence[str], document: str = "") -> Command:
    """Parse a study's command line: first the presets, then every option with its value under them as default.

    For --help, which shows the examples of the study's document, tyro prints a text and exits. Raises InputError.
    """
    options = options_of(study)
    others = [item for item in arguments if item not in ("-h", "--help")]
    kind = type(_explained(options.presets()))
    chosen, _ = parsed(lambda: tyro.cli(kind, args=others, return_unknown_args=True, add_help=False, config=CONFIG))
    presets = replace(options.presets(), **vars(chosen))
    groups = {"presets": presets, **options.groups(presets, for_help=len(others) < len(arguments))}
    if options.trains:
        groups |= {"execution": spec_options("How a cell trains.", Execution()), "running": TrainingRunOptions()}
    else:
        groups["running"] = RunOptions()
    made = [(name, _explained(group)) for name, group in groups.items()]
    values = [item for _, group in made for item in vars(group).items()]
    names = ["help", *(name for name, _ in values)]
    for factor in study.factors:
        fits = names.count(factor.name) == 1
        require(fits, "name of a factor", factor.name, "a name that is no option of the command line already")
    fields = [(name, type(group), field(default=group)) for name, group in made]
    line_type: Any = dataclasses.make_dataclass("CommandLine", fields, frozen=True)
    prog = Path(sys.argv[0]).name
    text = _description(f"{study.question} ({study.source}) --version prints the version.", document)
    off = [f"--no-{name.replace('_', '-')}" for name, value in values if value is False]  # a form that tyro lacks
    given = [item for item in arguments if item not in off]
    line = parsed(lambda: tyro.cli(line_type, prog=prog, args=given, description=text, config=CONFIG[1:]))
    request = options.request(presets, _with_seeds(options, presets, line))
    if not options.trains:
        return Command(request, line.running)
    execution = Execution(**vars(line.execution))
    return Command(request, line.running, execution, _worker_count(line.running.workers, execution))


def _with_seeds(options: StudyOptions, presets: Any, line: Any) -> Any:
    """The command line with a number of seeds where it says auto. Raises InputError."""
    if not hasattr(line, "levels") or getattr(line.levels, "seeds", 0) != "auto":
        return line
    from mobileone_core.reporting.power import seeds_for  # reads reports, which most commands do not need

    plan: Any = options.request(presets, replace(line, levels=replace(line.levels, seeds=2))).plan
    POSITIVE("detect", line.levels.detect)
    seeds = seeds_for(plan, line.levels.detect, reports_directory(line.running.reports))
    return replace(line, levels=replace(line.levels, seeds=seeds))


def wrapped(text: str) -> str:
    """A help text, its paragraphs as wide as the terminal or narrower; tyro joins lines that begin with a letter."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(textwrap.fill(part, _width(), subsequent_indent="  ") for part in paragraphs)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)


def _description(summary: str, document: str) -> str:
    """The summary, then a document's indented commands with their comments, as wide as the terminal or narrower."""
    width, lines = _width(), [wrapped(summary), ""]
    for command, comment in re.findall(r"^    (python .*?)(?:  +# (.*))?$", document, re.MULTILINE):
        lines += [*textwrap.wrap(comment, width, initial_indent="  # ", subsequent_indent="  # ")]
        parts = textwrap.wrap(command, width - 2, initial_indent="  ", subsequent_indent="      ", **UNBROKEN)
        lines.append(" \\\n".join(parts))
    return "\n".join(lines)


def _worker_count(workers: int | None, execution: Execution) -> int:
    """The requested workers, else as many as the usable GPUs, or else the cores, carry. Raises InputError."""
    if workers is None:
        return max(1, (len(gpu_names(execution.device)) or _cores() // execution.threads) // execution.processes)
    return require_integer("workers", workers)


def _cores() -> int:
    """Cores that this process may use; macOS counts all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_names(device: str) -> list[str]:
    """Names of the GPUs that cells may spread over, as the driver lists them, because asking torch takes seconds."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")) if device != "cpu" else []
    names = [name for file in files for name in re.findall(r"^Model:\s*(.*\S)", file.read_text(), re.MULTILINE)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # a cluster's job may see fewer than the driver lists
    names = names if visible is None else names[: len([item for item in visible.split(",") if item])]
    return names[:1] if ":" in device else names


def _explained(group: Any) -> Any:
    """The group with the help texts of its fields as tyro reads them; a group without such texts stays as it is."""
    hints, texts = get_type_hints(type(group)), help_texts(type(group))
    options = []
    for name, text in texts.items():
        value = getattr(group, name)
        hint = f"(default: {'on' if value else 'off'})" if hints[name] is bool else None
        flag = FLAGS.get((name, hints[name]), {})  # the factor of networks has a flag of its own
        markers = [tyro.conf.arg(help=text, metavar=METAVARS.get(hints[name]), help_behavior_hint=hint, **flag)]
        markers += [tyro.conf.FlagCreatePairsOff] if value is False else []
        options.append((name, Annotated[hints[name], *markers], value, text))
    return option_group(type(group).__doc__ or "", options) if options else group
