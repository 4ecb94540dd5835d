"""Files that are whole or not there."""

import os
from pathlib import Path

from mobileone_core.errors import InputError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write aside and rename, so that a reader or an interruption never meets half a file.

    Makes the directory; raises InputError where it cannot be written to.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        aside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        if aside.exists():
            aside.unlink()
