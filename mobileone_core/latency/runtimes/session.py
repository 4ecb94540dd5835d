"""The interface of every runtime: a session, which is an opened network that can be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobileone_core.latency.cell import Runtime


class UnmeasuredError(InputError):
    """A network has no latency: no library has it, its runtime cannot take it, or its outputs are wrong."""


@dataclass(frozen=True)
class Session:
    """A network opened in a runtime, with its image.

    call: one inference, complete when it returns. output: runs one inference and returns its result, (1, num_classes)
    float32 on the CPU. tags: runtime_version, provider, and threads, precision and layout as the runtime reports them.
    timer: runs one inference and returns its milliseconds, for a runtime with a better clock than the host's.
    """

    call: Callable[[], object]
    output: Callable[[], Tensor]
    tags: Mapping[str, str] = field(default_factory=dict)
    timer: Callable[[], float] | None = None


Opener = Callable[[], Session]


@dataclass(frozen=True)
class SessionSource:
    """A network to open: in evaluation mode, float32, on the CPU; it is not changed. images: (1, C, S, S).

    folder: an empty directory for files that sessions are opened from.
    """

    network: nn.Module
    images: Tensor
    runtime: Runtime
    folder: Path
