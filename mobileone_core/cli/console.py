"""The command `mobileone`: what spans studies."""

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Annotated, Any, Union

import tyro

from mobileone_core.cli.guard import exit_with, parsed
from mobileone_core.cli.options import workspace
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.cli.options.latency import Import, Latency, Run
from mobileone_core.cli.options.network import Export, Predict
from mobileone_core.cli.options.study import CONFIG, wrapped

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
LATENCY: Mapping[str, tuple[type[workspace.CommandOptions], str]] = {
    "run": (Run, "latency:measure_on_device"),
    "import": (Import, "latency:import_measurements"),
}
FUNCTIONS: Mapping[type[workspace.CommandOptions], str] = dict([*COMMANDS.values(), *LATENCY.values()])


def console(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 bad input, 130 interrupted."""
    exit_with(lambda line: run(parse(line)), arguments)


def parse(arguments: Sequence[str]) -> workspace.CommandOptions:
    """Parse the command line; for --help tyro prints a text and exits. Raises InputError."""
    if [*arguments[:1]] == ["latency"]:
        return _parsed("mobileone latency", Latency.__doc__ or "", LATENCY, arguments[1:])
    text = "What spans the studies of this workspace. --version prints the version."
    return _parsed("mobileone", text, {**COMMANDS, "latency": (Latency, "")}, arguments)


def _parsed(
    prog: str, text: str, commands: Mapping[str, tuple[type[Any], str]], arguments: Sequence[str]
) -> workspace.CommandOptions:
    """Parse one of several commands; the list of commands shows the first paragraph of their texts."""
    kinds = {name: kind for name, (kind, _) in commands.items()}
    texts = {name: (kind.__doc__ or "").partition("\n\n")[0] for name, kind in kinds.items()}
    texts |= {name: wrapped(kinds[name].__doc__ or "") for name in arguments[:1] if name in kinds}
    choices = [
        Annotated[kind, tyro.conf.subcommand(name, description=texts[name], prefix_name=False)]
        for name, kind in kinds.items()
    ]
    union: Any = Union[tuple(choices)]  # noqa: UP007 - made at run time
    options: workspace.CommandOptions = parsed(
        lambda: tyro.cli(union, prog=prog, description=text, args=arguments, config=CONFIG)
    )
    return options


def run(options: workspace.CommandOptions) -> int:
    """Check the options, then import and run their function; return the exit status. Raises InputError."""
    options.check()
    return int(resolve_name(f"mobileone_core.cli.commands.{FUNCTIONS[type(options)]}")(options))
