"""How a command runs: streams that show any text, an exit status, and one line for an error that a user can fix."""

import contextlib
import importlib.metadata
import io
import os
import re
import sqlite3
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mobileone_core.errors import InputError
from mobileone_core.texts import visible

COMPLETE, INCOMPLETE, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def exit_with(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> NoReturn:
    """Run a command and exit with its status; --version alone prints the version.

    arguments: those of this process if None, of which a notebook's kernel has none that are for us.
    """
    if arguments is None:
        arguments = () if sys.argv[0].endswith("kernel_launcher.py") else sys.argv[1:]
    sys.exit(guarded(_print_version if list(arguments) == ["--version"] else lambda: command(arguments)))


def _print_version() -> int:
    print(f"mobileone {importlib.metadata.version('mobileone-ablations')}")
    return COMPLETE


def parsed(parse: Callable[[], Any]) -> Any:
    """Parse with tyro; its box about a mistake becomes an InputError of one line, with the options it suggests."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as error:
        if not error.code:
            raise
    text = "\n".join(line.strip("│") for line in box.getvalue().splitlines()[1:])
    first, *others = filter(None, (part.strip("\n") for part in re.split(r"(?m)^[╰─╯ -]+$", text)))
    problem = " ".join(line.strip() for line in first.splitlines() if not line.startswith(8 * " "))
    meant = re.findall(r"(?m)^ {4,7}(--[\w-]+)", others[0]) if others and "Perhaps you meant:" in others[0] else []
    advice = f"perhaps you meant {' or '.join(meant)}" if meant else "see --help"
    raise InputError(f"{problem.rstrip('.')[:1000]}; {advice}")


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; an error that a user can fix becomes one line on standard error.

    Characters that the output's encoding lacks are replaced. Figures are files, so that MPLBACKEND, which notebooks
    export to their commands, is overruled here and in all processes that the command starts.
    """
    os.environ["MPLBACKEND"] = "agg"
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a closed pipe shows here, not when the interpreter ends
    except InputError as error:
        message = str(error)
    except sqlite3.Error as error:
        message = f"database: {error}"
    except BrokenPipeError:  # the reader, such as head or less, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        message = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"error: {visible(message)}", file=sys.stderr)
    return BAD_INPUT
