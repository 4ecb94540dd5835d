"""What every runtime offers: a network opened, that can be called. No torch here."""

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
    """Why a network has no latency: no library has it, or its runtime cannot take it or answers with wrong numbers."""


@dataclass(frozen=True)
class Session:
    """A network opened in a runtime, with its image. call: one inference, done when it returns.

    output: the last call's result, (1, num_classes) float32 on the CPU. tags: runtime_version, provider, and threads,
    precision and layout as the runtime itself says where it can be asked. timer: one call's milliseconds, where the
    runtime has a better clock than the host's.
    """

    call: Callable[[], object]
    output: Callable[[], Tensor]
    tags: Mapping[str, str] = field(default_factory=dict)
    timer: Callable[[], float] | None = None


Opener = Callable[[], Session]


@dataclass(frozen=True)
class SessionSource:
    """What a runtime opens. network: in evaluation mode, float32, on the CPU, left as it was; images: (1, C, S, S).

    folder: a directory of its own for files that sessions are opened from.
    """

    network: nn.Module
    images: Tensor
    runtime: Runtime
    folder: Path
