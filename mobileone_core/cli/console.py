"""The command `mobileone`: what spans studies."""

from collections.abc import Mapping, Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Any

import tyro

from mobileone_core.cli.guard import exit_with, parsed
from mobileone_core.cli.options import workspace
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.cli.options.latency import Import, Latency, Run
from mobileone_core.cli.options.network import Export, Predict
from mobileone_core.cli.options.study import CONFIG

COMMANDS: Mapping[str, tuple[type[workspace.CommandOptions], str]] = {  # options, and module:function of cli.commands
    "status": (workspace.Status, "run:status"),
    "report": (workspace.Report, "report:report"),
    "compare": (workspace.Compare, "report:compare"),
    "exclude": (workspace.Exclude, "report:exclude"),
    "forget": (workspace.Forget, "clean:forget"),
    "clean": (workspace.Clean, "clean:clean"),
    "ui": (workspace.Ui, "run:ui"),
    "data": (workspace.Check, "run:check_data"),
    "evaluate": (Evaluate, "evaluate:evaluate_checkpoint"),
    "predict": (Predict, "predict:predict"),
    "export": (Export, "export:export"),
}
OF_LATENCY = ((Run, "latency:measure_on_device"), (Import, "latency:import_measurements"))
FUNCTIONS: Mapping[type[workspace.CommandOptions], str] = dict([*COMMANDS.values(), *OF_LATENCY])


def console(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 bad input, 130 interrupted."""
    exit_with(lambda line: run(parse(line)), arguments)


def parse(arguments: Sequence[str]) -> workspace.CommandOptions:
    """Parse the command line; for --help tyro prints a text and exits. Raises InputError."""
    text = "What spans the studies of this workspace. --version prints the version."
    names: dict[str, type[Any]] = {name: kind for name, (kind, _) in COMMANDS.items()} | {"latency": Latency}
    command_line_of = partial(tyro.extras.subcommand_cli_from_dict, names, prog="mobileone", description=text)
    options = parsed(lambda: command_line_of(args=arguments, config=CONFIG))
    chosen: workspace.CommandOptions = options.action if isinstance(options, Latency) else options
    return chosen


def run(options: workspace.CommandOptions) -> int:
    """Check the options, then import and run their function; return the exit status. Raises InputError."""
    options.check()
    return int(resolve_name(f"mobileone_core.cli.commands.{FUNCTIONS[type(options)]}")(options))
