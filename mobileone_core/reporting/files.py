"""Files of a report."""

from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.files import write_whole


def write_content(path: Path, content: str | bytes) -> None:
    """Write a file whole and make its directory; InputError where it cannot be written."""
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def kept_text(path: Path) -> str:
    """A file's text; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""
