"""Files that are whole or not there."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write aside, flush and rename: a reader, an interruption or a power loss meets the old file or the new one.

    write is given the path to write to, in the same directory.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # threads and containers may share a pid
    try:
        write(aside)
        flush(aside)
        aside.replace(path)
        with contextlib.suppress(OSError):  # not every file system can flush a directory
            flush(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Let a file's or directory's content reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
