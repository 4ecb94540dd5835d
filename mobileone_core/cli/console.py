"""The command `mobileone`: what spans studies."""

import importlib
import sys
from collections.abc import Mapping, Sequence

import tyro

from mobileone_core.cli.guard import guarded
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.cli.options.export import Export
from mobileone_core.cli.options.latency import Import, Latency, Run
from mobileone_core.cli.options.study import CONFIG
from mobileone_core.cli.options.workspace import CommandOptions, Compare, DataCheck, Report, Status, Ui

COMMANDS: Mapping[type[CommandOptions], str] = {  # module:function of cli.commands, imported when it runs
    Status: "run:status",
    Report: "report:report",
    Compare: "report:compare",
    Ui: "run:ui",
    Evaluate: "evaluate:evaluate_checkpoint",
    Export: "export:export",
    DataCheck: "run:check_data",
    Run: "latency:measure_on_device",
    Import: "latency:import_measurements",
}


def console(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 bad input, 130 interrupted."""
    sys.exit(guarded(lambda: run(parse(sys.argv[1:] if arguments is None else arguments))))


def parse(arguments: Sequence[str]) -> CommandOptions:
    """Parse the command line; for --help and for options that do not fit, tyro prints a text and exits."""
    options = tyro.extras.subcommand_cli_from_dict(
        {
            "status": Status,
            "report": Report,
            "compare": Compare,
            "ui": Ui,
            "data": DataCheck,
            "evaluate": Evaluate,
            "export": Export,
            "latency": Latency,
        },
        args=arguments,
        prog="mobileone",
        description="What spans the studies of this workspace.",
        config=CONFIG,
    )
    chosen: CommandOptions = options.action if isinstance(options, Latency) else options
    return chosen


def run(options: CommandOptions) -> int:
    """Check the options, then import and run their command; return the exit status. Raises InputError."""
    options.check()
    module, _, function = COMMANDS[type(options)].partition(":")
    status: int = getattr(importlib.import_module(f"mobileone_core.cli.commands.{module}"), function)(options)
    return status
