"""Mistakes in a study's file: one line with the file and line instead of a traceback, and exit status 2."""

import dataclasses
import inspect
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from mobileone_core.errors import InputError, require_choice

BETWEEN = (dataclasses.__file__, __file__)  # replace() makes an instance on behalf of its caller


class Declared(type):
    """Metaclass of frozen dataclasses that study files make: unknown and missing arguments raise InputError.

    An instance gets the path of the file that made it as its attribute declared_in, which is no field.
    """

    def __call__(cls, *args: Any, **named: Any) -> Any:
        """Make an instance. Raises InputError."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        for name in named:
            require_choice(f"{cls.__name__}, argument", name, [*signature.parameters][1:])
        try:
            signature.bind(cls, *args, **named)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}") from error
        made, frame = super().__call__(*args, **named), sys._getframe(1)
        while frame.f_code.co_filename in BETWEEN and frame.f_back:
            frame = frame.f_back
        file = Path(frame.f_code.co_filename)
        object.__setattr__(made, "declared_in", str(file.resolve()) if file.is_file() else "")
        return made


def end_with_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook: one line for an InputError of a declaration, which no main can catch, and exit status 2."""
    frames = traceback.extract_tb(trace)
    if not (isinstance(error, InputError) and any(frame.filename == __file__ for frame in frames)):
        _other_errors(kind, error, trace)
        return
    end = [frame.filename for frame in frames].index(__file__)
    made = [frame for frame in frames[:end] if frame.filename not in BETWEEN][-1]
    print(f"error: {made.filename}, line {made.lineno}: {error}", file=sys.stderr)
    raise SystemExit(2)


_other_errors, sys.excepthook = sys.excepthook, end_with_one_line
