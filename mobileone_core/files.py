"""Atomic writing and hashing of files."""

import codecs
import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mobileone_core.errors import InputError, refusing, require

Result = TypeVar("Result")


def write_whole(path: Path, write: Callable[[Path], Result]) -> Result:
    """Write a file atomically: after an interruption or a power loss it is the old file or the new one.

    write gets the path of a temporary file in the same directory, which is then flushed and renamed to path. Returns
    what write returned. An OSError about the temporary file names path.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # threads and containers may share a pid
    try:
        result = write(aside)
        flush(aside)
        aside.replace(path)
        with contextlib.suppress(OSError):  # not every file system can flush a directory
            flush(path.parent)
    except OSError as error:  # a full disk's has no file name
        if error.errno and error.filename in (None, str(aside)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        aside.unlink(missing_ok=True)
    return result


def flush(path: Path) -> None:
    """Flush a file's or directory's content to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_content(path: Path, content: str | bytes) -> None:
    """Write a file atomically and make its directory. Raises InputError where it cannot be written."""
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def require_writable(field: str, directory: Path) -> None:
    """Raise InputError unless directory is one that can be written to, or can be created."""
    existing = next(item for item in (directory.absolute(), *directory.absolute().parents) if item.exists())
    is_writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    require(is_writable, field, str(directory), f"{existing} is no directory that can be written to")


def user_cache() -> Path | None:
    """Our directory in the user's cache; None where it is not writable, or the user has no home."""
    with contextlib.suppress(OSError, RuntimeError):
        ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobileone_ablations"
        ours.mkdir(parents=True, exist_ok=True)
        if os.access(ours, os.W_OK):
            return ours
    return None


def expanded(path: Path) -> Path:
    """A path, its ~ replaced by the home that it names. Raises InputError if that is unknown."""
    with refusing(f"{path}: its ~ names no user with a home; write the path out"):
        path = path.expanduser()
    return path


def saved_text(path: Path) -> str:
    """The text of a file; empty where it does not exist."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_text(path: Path) -> str:
    """Read a user's text file, UTF-8 or UTF-16 with a byte order mark, without the mark; lines end in a newline.

    Raises InputError with the file's name for another encoding, and OSError where it cannot be read.
    """
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark is valid UTF-8
        cure = "save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
        raise InputError(f"{path}: neither UTF-8 nor UTF-16 with a byte order mark; {cure}")
    return text.replace("\r\n", "\n").replace("\r", "\n")
