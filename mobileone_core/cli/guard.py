"""How a command runs: streams that show any text, an exit status, and one line for an error that a user can fix."""

import io
import os
import sqlite3
import sys
from collections.abc import Callable

from mobileone_core.errors import InputError

COMPLETE, INCOMPLETE, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; an error that a user can fix becomes one line on standard error.

    Characters that the output's encoding lacks are replaced. Figures are files, so that MPLBACKEND, which notebooks
    export to their commands, is overruled here and in all processes that the command starts.
    """
    os.environ["MPLBACKEND"] = "agg"
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
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
