"""The command `mobileone`: what spans studies."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import tyro

from mobileone_core.cli.guard import COMPLETE, command_line, guarded, parsed
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.cli.options.export import Export
from mobileone_core.cli.options.latency import Import, Latency, Run
from mobileone_core.cli.options.predict import Predict
from mobileone_core.cli.options.study import CONFIG
from mobileone_core.cli.options.workspace import (
    Check,
    Clean,
    CommandOptions,
    Compare,
    Exclude,
    Forget,
    Report,
    Status,
    Ui,
)

COMMANDS: Mapping[str, tuple[type[CommandOptions], str]] = {  # options, and module:function of cli.commands
    "status": (Status, "run:status"),
    "report": (Report, "report:report"),
    "compare": (Compare, "report:compare"),
    "exclude": (Exclude, "report:exclude"),
    "forget": (Forget, "clean:forget"),
    "clean": (Clean, "clean:clean"),
    "ui": (Ui, "run:ui"),
    "data": (Check, "run:check_data"),
    "evaluate": (Evaluate, "evaluate:evaluate_checkpoint"),
    "predict": (Predict, "predict:predict"),
    "export": (Export, "export:export"),
}
OF_LATENCY = ((Run, "latency:measure_on_device"), (Import, "latency:import_measurements"))
FUNCTIONS: Mapping[type[CommandOptions], str] = dict([*COMMANDS.values(), *OF_LATENCY])


def console(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 bad input, 130 interrupted."""

    def command() -> int:
        line = command_line(arguments)
        return run(parse(line)) if line is not None else COMPLETE

    sys.exit(guarded(command))


def parse(arguments: Sequence[str]) -> CommandOptions:
    """Parse the command line; for --help tyro prints a text and exits. Raises InputError."""
    text = "What spans the studies of this workspace. --version prints the version."
    names: dict[str, type[Any]] = {name: kind for name, (kind, _) in COMMANDS.items()} | {"latency": Latency}
    command_line_of = partial(tyro.extras.subcommand_cli_from_dict, names, prog="mobileone", description=text)
    options = parsed(lambda: command_line_of(args=arguments, config=CONFIG))
    chosen: CommandOptions = options.action if isinstance(options, Latency) else options
    return chosen


def run(options: CommandOptions) -> int:
    """Check the options, then import and run their function; return the exit status. Raises InputError."""
    options.check()
    module, _, function = FUNCTIONS[type(options)].partition(":")
    status: int = getattr(importlib.import_module(f"mobileone_core.cli.commands.{module}"), function)(options)
    return status
