"""A measurement of latencies side by side: what is timed, and what came out. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mobileone_core.latency.cell import LatencyCell
from mobileone_core.latency.side_by_side import Arm, Plain, SideBySide

LatencyArm = Arm[LatencyCell]


class LatencySpec(SideBySide[LatencyCell]):
    """Networks timed side by side."""

    kind = "latency"
    cell_type = LatencyCell


@dataclass(frozen=True)
class ArmResult:
    """One arm of a comparison, or one form of it. metrics: milliseconds, bytes, counts and ratios by name; samples:
    every time of a call by the call's name, rounds of bursts in milliseconds. tags: what else the record is to say.

    unmeasured says why there are no times: what a runtime answered that cannot take the network.
    """

    label: str
    factors: Mapping[str, Plain]
    form: str
    metrics: Mapping[str, float]
    samples: Mapping[str, list[list[float]]]
    tags: Mapping[str, str] = field(default_factory=dict)
    unmeasured: str = ""
