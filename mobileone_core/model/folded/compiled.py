"""Depthwise 3x3 blocks in float32 by depthwise.c, compiled at first use where there is a C compiler."""

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
from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.kind import Kind

SOURCE = Path(__file__).with_name("depthwise.c")
LEVELS = {"AVX2": ["-march=x86-64-v3"], "AVX512": ["-march=x86-64-v4"]}  # by torch's name of what the processor has
THREADING = (["-fopenmp"], ["-fopenmp-simd"], [])  # the first that the compiler takes
SECONDS = 60  # that a compiler may take


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "height", "width", "stride")]


@cache
def library() -> ctypes.CDLL | None:
    """depthwise.c as this machine runs it; None where it has no C compiler that takes it."""
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
        write_whole(path, lambda aside: subprocess.run([*command, str(SOURCE), "-o", str(aside)], check=True, capture_output=True, timeout=SECONDS))
    return path


def _cache() -> Path:
    """Ours in the user's cache; where that cannot be written, one of this process."""
    ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobileone_ablations"
    with contextlib.suppress(OSError):
        ours.mkdir(parents=True, exist_ok=True)
        if os.access(ours, os.W_OK):
            return ours
    return Path(tempfile.mkdtemp())


class Compiled(Kind):
    """Depthwise 3x3 at stride 1 or 2. Everything is read in the order in which it lies, and a channel at a time."""

    def moments(self, x: Tensor) -> Moments:
        channels = x.shape[1]
        mean, covariance = x.new_empty(channels, 9), x.new_empty(channels, 9, 9)
        self._call("moments", x, mean, covariance)
        return Moments(mean, covariance)

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        y = x.new_empty(*x.shape[:2], *self.geometry.sizes(x.shape))
        self._call("convolve", x, mean, kernel, bias, y)
        return y

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        to_kernel, to_bias = x.new_empty(x.shape[1], 1, 9), x.new_empty(x.shape[1], 1)
        self._call("to_parameters", x, mean, to_y, to_kernel, to_bias)
        return to_kernel, to_bias

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        to_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._call("to_input", x, mean, to_y, level, kernel, weights, to_x)
        return to_x

    def _call(self, name: str, x: Tensor, *others: Tensor) -> None:
        """Tensors are float32; the inputs among them are made contiguous, the results are so."""
        held = [x.contiguous(), *(value.contiguous() for value in others)]
        shape = _Shape(*x.shape, self.geometry.stride)
        pointers = [ctypes.c_void_p(value.data_ptr()) for value in held]
        if getattr(library(), name)(ctypes.byref(shape), *pointers, ctypes.c_int(torch.get_num_threads())):
            raise MemoryError(f"depthwise {name}: no memory for a thread's lines")
