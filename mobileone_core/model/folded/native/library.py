"""The C sources of this folder as one library, built at first use by the machine's compiler."""

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileone_core.files import user_cache, write_whole
from mobileone_core.model.folded.operators import Function, operator

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
LEVELS = {"AVX2": ["-march=x86-64-v3"], "AVX512": ["-march=x86-64-v4"]}  # by torch's name of the instruction set
THREADING: tuple[list[str], ...] = (["-fopenmp"], ["-fopenmp-simd"], [])  # the first that the compiler takes
SECONDS = 60  # until a compiler is stopped


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Whether this machine has a C compiler that builds the sources."""
    return library() is not None


@cache
def library() -> ctypes.CDLL | None:
    """Build or load the library; None where no compiler builds it. It lies in the user's cache if that can hold it."""
    compiler = shlex.split(os.environ.get("CC", "")) or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler or os.name != "posix":
        return None
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability(), [])
    for threading in THREADING:
        command = [*compiler, "-std=gnu11", "-O3", *level, *threading, "-shared", "-fPIC"]
        with contextlib.suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as temporary:
            for directory in filter(None, (user_cache(), Path(temporary))):
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    return ctypes.CDLL(str(_built(command, directory)))
    return None


def _built(command: list[str], directory: Path) -> Path:
    """The path of the library that a command builds, named by command and sources; built where it does not exist."""
    sources = b"".join(source.read_bytes() for source in SOURCES)
    name = hashlib.sha256(repr(command).encode() + sources).hexdigest()[:16]
    path = directory / f"folded-{name}.so"
    if not path.exists():
        write_whole(path, lambda aside: _run([*command, *map(str, SOURCES), "-o", str(aside)]))
    return path


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def native_operator(family: str, size: Callable[..., ctypes.Structure]) -> Callable[[Function], Function]:
    """Decorate a function that makes empty results: the C function of its name then fills them.

    C receives what size returns for the arguments, the tensor arguments in their order (inputs, made contiguous; they
    must be float32 on the CPU), the results, and the number of threads. Raises TypeError for any other tensor and
    MemoryError where the C function has no memory to work in.
    """

    def decorate(empty: Function) -> Function:
        @wraps(empty)
        def filled(*arguments: Any) -> Any:
            inputs = [_contiguous(value) for value in arguments if not isinstance(value, int)]
            pointers = [_pointer(value, torch.float32) for value in inputs]
            results = empty(*arguments)
            pointers += [_pointer(value, None) for value in (results if isinstance(results, tuple) else (results,))]
            threads = ctypes.c_int(torch.get_num_threads())
            if getattr(library(), empty.__name__)(ctypes.byref(size(*arguments)), *pointers, threads):
                raise MemoryError(f"{empty.__name__}: not enough memory for its threads to work in")
            return results

        return operator(family, empty)(filled)  # type: ignore[return-value]

    return decorate


def _contiguous(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [one.contiguous() for one in value] if isinstance(value, list) else value.contiguous()


def _pointer(value: Tensor | list[Tensor], dtype: torch.dtype | None) -> Any:
    """The address of a tensor's data, or an array of addresses; any dtype where None is given."""
    if isinstance(value, list):
        return (ctypes.c_void_p * len(value))(*(_pointer(one, dtype) for one in value))
    pointer = value.data_ptr()
    if value.dtype != (dtype or value.dtype) or value.device.type != "cpu" or not pointer:
        raise TypeError(f"a tensor of {dtype} with data on the CPU is needed, not {value.dtype} on {value.device}")
    return ctypes.c_void_p(pointer)
