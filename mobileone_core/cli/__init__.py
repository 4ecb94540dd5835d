"""The command line: main and run start a study, from a command line and from Python; console is `mobileone`."""

from mobileone_core.cli.commands.run import main, run
from mobileone_core.cli.console import console

__all__ = ["console", "main", "run"]
