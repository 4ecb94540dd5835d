"""Which process runs a cell, and whether it is still alive; variables of its environment."""

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # clusters send the last two
CLOCK_TOLERANCE = 2.0  # seconds; start times are relative to the boot time, which shifts when the clock is set


@dataclass(frozen=True)
class Owner:
    """A process: host name, process id, creation time (seconds since 1970), machine_id() and Slurm job, if any."""

    host: str
    pid: int
    created: float
    machine: str = ""
    job: str = ""

    @classmethod
    def here(cls) -> "Owner":
        """The calling process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time(), machine_id(), slurm_job())

    @classmethod
    def read(cls, attributes: Mapping[str, Any] | None) -> "Owner | None":
        """The owner stored in a trial's attributes; None if there is none."""
        return cls(**attributes) if attributes else None

    @property
    def is_here(self) -> bool:
        """Whether the process runs, or ran, on this machine."""
        return (self.host, self.machine) == (socket.gethostname(), machine_id())

    @property
    def is_gone(self) -> bool:
        """Whether the process ran on this machine and has ended; False for any other machine."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            shift = abs(float(process.create_time()) - self.created)
            return shift > CLOCK_TOLERANCE or bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    @property
    def is_sibling(self) -> bool:
        """Whether the process has the same parent as the calling one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.is_here and bool(psutil.Process(self.pid).ppid() == os.getppid())
        return False


def process_start() -> float:
    """Start of the calling process in seconds since 1970."""
    created = float(psutil.Process().create_time())
    if hasattr(time, "CLOCK_BOOTTIME"):  # psutil's time of the boot is a whole second
        created += time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - psutil.boot_time()
    return created


def slurm_job() -> str:
    """Id of the Slurm job that this process belongs to, such as 12_3 in an array; empty outside Slurm."""
    array = [os.environ.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK")]
    return "_".join(array) if all(array) else os.environ.get("SLURM_JOB_ID", "")


@functools.cache
def machine_id() -> str:
    """Id of the machine, its boot and its container, which may share a host name; empty except on Linux."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


@contextlib.contextmanager
def environment_variables(**values: str) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name)
            os.environ.update({} if text is None else {name: text})
