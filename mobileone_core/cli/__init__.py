"""The command line: main runs a study, console is the command `mobileone`."""

from mobileone_core.cli.console import console
from mobileone_core.cli.run import main

__all__ = ["console", "main"]
