"""A Core ML package on disk: a directory that is whole or not there, known by the hash of what it holds."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.files import flush

SUFFIX = ".mlpackage"
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
PARTS = (MODEL, WEIGHTS)  # Manifest.json names them by random identifiers, and differs from one saving to the next


def part_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of model.mlmodel and of weight.bin. Raises InputError where path is no Core ML package."""
    return {part.name: hashlib.sha256(_part(path, part)).hexdigest() for part in PARTS}


def package_hash(path: Path) -> str:
    """SHA-256 over model.mlmodel and weight.bin, one after the other: what names a model.

    Raises InputError where path is no Core ML package.
    """
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(_part(path, part))
    return digest.hexdigest()


def package_bytes(path: Path) -> int:
    """The size of all its files."""
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def write_package(path: Path, write: Callable[[Path], object]) -> None:
    """Write a directory aside, flush and rename: a reader or an interruption meets the old one, the new one or none.

    write is given the path to write to, beside the final one. What a killed process left aside is removed first.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        if not _is_alive(left.suffixes[-2].removeprefix(".")):
            shutil.rmtree(left, ignore_errors=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        write(aside)
        for item in sorted(aside.rglob("*")):
            flush(item)
        if path.exists():  # a directory cannot be renamed over another that is not empty
            path.replace(old)
        aside.replace(path)
        flush(path.parent)
    finally:
        for left in (aside, old):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: str) -> bool:
    """Whether a process, by its number, still runs."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _part(path: Path, part: Path) -> bytes:
    if not (path / part).is_file():
        raise InputError(f"{path}: no Core ML package: it holds no {part.as_posix()}")
    return (path / part).read_bytes()
