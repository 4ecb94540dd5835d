"""Which process holds a cell, and whether it is gone."""

import contextlib
import functools
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CLOCK_SLACK = 2.0  # seconds; the start of a process is counted from a boot time that the clock may shift


@dataclass(frozen=True)
class Owner:
    """A process: host name, process id, the time it was created (seconds since 1970), and what machine() gave it."""

    host: str
    pid: int
    created: float
    machine: str = ""

    @classmethod
    def here(cls) -> "Owner":
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time(), machine())

    @classmethod
    def read(cls, attributes: Mapping[str, Any] | None) -> "Owner | None":
        """An owner as a trial's attributes hold it."""
        return cls(**attributes) if attributes else None

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return (self.host, self.machine) == (socket.gethostname(), machine())

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine and is no more; of another one nobody here can tell."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            shift = abs(float(process.create_time()) - self.created)
            return shift > CLOCK_SLACK or bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    @property
    def is_sibling(self) -> bool:
        """Whether it is a process of this machine that whoever started this one started too."""
        if not self.is_here:
            return False
        try:
            return bool(psutil.Process(self.pid).ppid() == os.getppid())
        except psutil.NoSuchProcess:
            return False


@functools.cache
def machine() -> str:
    """Tells machines, their boots and their containers apart where host names do not; on Linux alone."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""
