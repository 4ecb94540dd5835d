"""Which process holds a cell, and whether it is gone."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

CLOCK_SLACK = 2.0  # seconds; the start of a process is counted from a boot time that the clock may shift


@dataclass(frozen=True)
class Owner:
    """A process: host name, process id and the time it was created (seconds since 1970)."""

    host: str
    pid: int
    created: float

    @classmethod
    def here(cls) -> "Owner":
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, attributes: Mapping[str, Any] | None) -> "Owner | None":
        """An owner as a trial's attributes hold it."""
        return cls(**attributes) if attributes else None

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this host and is no more; of another host nobody here can tell."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            shift = abs(float(process.create_time()) - self.created)
            return shift > CLOCK_SLACK or bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
