"""Core ML packages on disk: written atomically, identified by the hash of their content."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from mobileone_core.errors import InputError
from mobileone_core.files import Result, flush

SUFFIX = ".mlpackage"
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
PARTS = (MODEL, WEIGHTS)  # not Manifest.json: its random identifiers change with every save


def part_hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of model.mlmodel and of weight.bin. Raises InputError if path is not a Core ML package."""
    return {part.name: hashlib.sha256(_part(path, part)).hexdigest() for part in PARTS}


def package_hash(path: Path) -> str:
    """Return the SHA-256 of model.mlmodel and weight.bin concatenated, which identifies a model.

    Raises InputError if path is not a Core ML package.
    """
    return hashlib.sha256(b"".join(_part(path, part) for part in PARTS)).hexdigest()


def package_bytes(path: Path) -> int:
    """Return the size of all files of a package in bytes."""
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def write_package(path: Path, write: Callable[[Path], Result]) -> Result:
    """Write a package atomically: after an interruption it is the old directory, the new one or none.

    write gets the path of a temporary directory in the same folder. Leftovers of killed processes are removed first.
    Returns what write returned.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        process = left.suffixes[-2].removeprefix(".")
        if not (process.isdecimal() and psutil.pid_exists(int(process))):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent) as directory:
        aside = Path(directory, f"new{SUFFIX}")
        result = write(aside)
        for item in sorted(aside.rglob("*")):
            flush(item)
        if path.exists():  # a directory cannot be renamed over another that is not empty
            path.replace(Path(directory, "old"))
        aside.replace(path)
        flush(path.parent)
    return result


def _part(path: Path, part: Path) -> bytes:
    if not (path / part).is_file():
        raise InputError(f"{path}: not a Core ML package: {part.as_posix()} is missing")
    return (path / part).read_bytes()
