"""How a command ends: one short line for what went wrong, a status, and no traceback."""

import sqlite3
import sys
from collections.abc import Callable

from mobileone_core.errors import InputError

COMPLETE, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def guarded(command: Callable[[], int]) -> int:
    """Run a command; what a person can mend becomes one line on standard error and a non-zero status."""
    try:
        return command()
    except InputError as error:
        return _complain(str(error))
    except sqlite3.Error as error:
        return _complain(f"database: {error}")
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror or error}{place}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
