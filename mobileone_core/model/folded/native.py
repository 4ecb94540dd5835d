"""depthwise.c as operators of torch: built at first use, where there is a C compiler."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mobileone_core.files import write_whole
from mobileone_core.model.folded.geometry import output_sizes
from mobileone_core.model.folded.operators import registered

SOURCE = Path(__file__).with_name("depthwise.c")
LEVELS = {"AVX2": ["-march=x86-64-v3"], "AVX512": ["-march=x86-64-v4"]}  # by torch's name of what the processor has
THREADING: tuple[list[str], ...] = (["-fopenmp"], ["-fopenmp-simd"], [])  # the first that the compiler takes
SECONDS = 60  # that a compiler may take
TAPS = 9


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "height", "width", "stride")]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Whether this machine has a C compiler that takes depthwise.c."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.name != "posix":
        return None
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability(), [])
    for threading in THREADING:
        command = [compiler, "-std=c11", "-O3", *level, *threading, "-shared", "-fPIC"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return ctypes.CDLL(str(_built(command)))
    return None


def _built(command: list[str]) -> Path:
    """The library that a command makes: kept in the user's cache by command and source."""
    name = hashlib.sha256(repr(command).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    path = _cache() / f"depthwise-{name}.so"
    if not path.exists():
        write_whole(path, lambda aside: _run([*command, str(SOURCE), "-o", str(aside)]))
    return path


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def _cache() -> Path:
    """Ours in the user's cache; where that cannot be written, one of this process."""
    ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobileone_ablations"
    with contextlib.suppress(OSError):
        ours.mkdir(parents=True, exist_ok=True)
        if os.access(ours, os.W_OK):
            return ours
    return Path(tempfile.mkdtemp())


def _call(name: str, stride: int, x: Tensor, *others: Tensor) -> None:
    """Tensors are float32; the inputs among them are made contiguous, the results are so."""
    held = [x.contiguous(), *(value.contiguous() for value in others)]
    shape = _Shape(*x.shape, stride)
    pointers = [ctypes.c_void_p(value.data_ptr()) for value in held]
    if getattr(_library(), name)(ctypes.byref(shape), *pointers, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"depthwise {name}: no memory for a thread's lines")


def _output(x: Tensor, stride: int) -> Tensor:
    """An empty output (N, C, H', W')."""
    return x.new_empty(*x.shape[:2], *output_sizes(x.shape, stride))


def moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean (C, 9) and covariance (C, 9, 9) of the patches of x (N, C, H, W)."""
    found = _like_moments(x, stride)
    _call("moments", stride, x, *found)
    return found


def convolve(x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """kernel (C, 1, 9) over patches less their mean (C, 9), plus bias (C, 1)."""
    y = _output(x, stride)
    _call("convolve", stride, x, mean, kernel, bias, y)
    return y


def to_parameters(x: Tensor, mean: Tensor, to_y: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of convolve to kernel and bias."""
    found = _like_parameters(x, mean, to_y, stride)
    _call("to_parameters", stride, x, mean, to_y, *found)
    return found


def to_input(  # noqa: PLR0913, PLR0917
    x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor, stride: int
) -> Tensor:
    """What x receives where a patch is given kernel * (to_y - level) + weights (p - mean)."""
    to_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    _call("to_input", stride, x, mean, to_y, level, kernel, weights, to_x)
    return to_x


def _like_moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return x.new_empty(x.shape[1], TAPS), x.new_empty(x.shape[1], TAPS, TAPS)


def _like_parameters(x: Tensor, mean: Tensor, to_y: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return x.new_empty(x.shape[1], 1, TAPS), x.new_empty(x.shape[1], 1)


OPERATORS = registered(
    "depthwise",
    {
        moments: _like_moments,
        convolve: lambda x, mean, kernel, bias, stride: _output(x, stride),  # noqa: ARG005
        to_parameters: _like_parameters,
        to_input: lambda x, *others: torch.empty_like(x, memory_format=torch.contiguous_format),  # noqa: ARG005
    },
)
