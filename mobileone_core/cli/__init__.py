"""The command line: main runs a study, console is the command `mobileone`."""

from mobileone_core.cli.commands.run import main
from mobileone_core.cli.console import console

__all__ = ["console", "main"]
