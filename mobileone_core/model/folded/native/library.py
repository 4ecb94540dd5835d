"""The C sources of this room as one library, built at first use by the machine's compiler."""

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mobileone_core.files import write_whole

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
LEVELS = {"AVX2": ["-march=x86-64-v3"], "AVX512": ["-march=x86-64-v4"]}  # by torch's name of what the processor has
THREADING: tuple[list[str], ...] = (["-fopenmp"], ["-fopenmp-simd"], [])  # the first that the compiler takes
SECONDS = 60  # that a compiler may take


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Whether this machine has a C compiler that takes the sources."""
    return library() is not None


@cache
def library() -> ctypes.CDLL | None:
    """None where no compiler takes the sources. Where the user's cache cannot be written, none is kept."""
    compiler = shlex.split(os.environ.get("CC", "")) or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler or os.name != "posix":
        return None
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability(), [])
    for threading in THREADING:
        command = [*compiler, "-std=gnu11", "-O3", *level, *threading, "-shared", "-fPIC"]
        with contextlib.suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as unkept:
            return ctypes.CDLL(str(_built(command, _cache() or Path(unkept))))
    return None


def _built(command: list[str], directory: Path) -> Path:
    """The library that a command makes: kept in a directory by command and sources."""
    sources = b"".join(source.read_bytes() for source in SOURCES)
    name = hashlib.sha256(repr(command).encode() + sources).hexdigest()[:16]
    path = directory / f"folded-{name}.so"
    if not path.exists():
        write_whole(path, lambda aside: _run([*command, *map(str, SOURCES), "-o", str(aside)]))
    return path


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def _cache() -> Path | None:
    """Ours in the user's cache; None where that cannot be written, or there is no user."""
    with contextlib.suppress(OSError, RuntimeError):
        ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobileone_ablations"
        ours.mkdir(parents=True, exist_ok=True)
        if os.access(ours, os.W_OK):
            return ours
    return None


def call(name: str, size: ctypes.Structure, *tensors: Tensor | list[Tensor], doubles: Sequence[Tensor] = ()) -> None:
    """A function of the library on float32 tensors and lists of them, then on float64 ones. Inputs are made contiguous;
    results must be so.

    Raises MemoryError where the library has no memory for what it works with, TypeError for any other tensor.
    """
    held = [[one.contiguous() for one in value] if isinstance(value, list) else value.contiguous() for value in tensors]
    pointers = [_pointers(value) if isinstance(value, list) else ctypes.c_void_p(_pointer(value)) for value in held]
    pointers += [ctypes.c_void_p(_pointer(value, torch.float64)) for value in doubles]
    if getattr(library(), name)(ctypes.byref(size), *pointers, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"{name}: no memory for what its threads work with")


def _pointers(tensors: list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*map(_pointer, tensors))


def _pointer(tensor: Tensor, dtype: torch.dtype = torch.float32) -> int:
    pointer = tensor.data_ptr()
    if tensor.dtype != dtype or tensor.device.type != "cpu" or not pointer:
        raise TypeError(f"a tensor of {dtype} with data on the CPU is needed, not {tensor.dtype} on {tensor.device}")
    return pointer
