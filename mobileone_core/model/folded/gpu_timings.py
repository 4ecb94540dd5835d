"""Where folding was measured to be faster on GPUs: one JSON file per family of devices, from a run of gpu.py."""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mobileone_core.errors import InputError, require

FOLDER = Path(__file__).with_name("timings")
FORM = re.compile(r"[ -](?:SXM|PCIE|NVL|HBM|MIG|\d+ ?GB).*", re.IGNORECASE)  # socket and memory, not the family
NEAREST = 2  # largest ratio of a block's channels to those of a block that was measured


class Condition(NamedTuple):
    """The condition of a timing: the kind of block (Geometry.kind), dtype, memory format, and torch.compile or not."""

    kind: str
    dtype: str
    channels_last: bool
    compiled: bool


class Timing(NamedTuple):
    """A block's k, input channels and output positions; ratio is the time of the branches over that of folding."""

    condition: Condition
    k: int
    channels: int
    positions: int
    ratio: float


def timings_path(device: str) -> Path:
    """The file of a device's family: nvidia_h100.json for "NVIDIA H100 80GB HBM3"."""
    return FOLDER / f"{re.sub(r'[^a-z0-9]+', '_', FORM.sub('', device).lower())}.json"


@cache
def timings(device: str) -> tuple[Timing, ...]:
    """All timings of a device's family, by the device's name; none where it was not measured."""
    path = timings_path(device)
    return tuple(map(_timing, json.loads(path.read_text())["timings"])) if path.exists() else ()


@cache
def least_positions(device: str, condition: Condition, k: int, channels: int) -> int | None:
    """Fewest output positions from which blocks of this kind gain by folding; None where no measurement says so.

    Decided by the timings with the nearest channels and the largest k that is not above this one: their product of
    ratios over all positions from this number on is the largest, and above 1.
    """
    rows = [row for row in timings(device) if row.condition == condition and row.k <= k]
    distance = {row: abs(math.log(row.channels / channels)) for row in rows}
    rows = [row for row in rows if distance[row] == min(distance.values()) <= math.log(NEAREST)]
    rows = [row for row in rows if row.k == max(other.k for other in rows)]
    gains = {row.positions: sum(math.log(r.ratio) for r in rows if r.positions >= row.positions) for row in rows}
    best = max(gains, key=lambda positions: gains[positions], default=0)
    return best if gains and gains[best] > 0 else None


def write_timings(measurement: Path) -> Path:
    """Write the timings of a run of tests/benchmarks/gpu.py as the file of its device's family. Raises InputError."""
    try:
        content = json.loads(measurement.read_text())
        device, rows = content["device"], [item["timing"] for item in content["results"] if "timing" in item]
        fits = device["type"] == "cuda" and len({_timing(row) for row in rows}) == len(rows) >= 1
        path = timings_path(device["name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError.of("from", str(measurement), "a file gpu.json of tests/benchmarks/gpu.py") from error
    require(fits, "from", str(measurement), "one with timings of blocks on a GPU, each once")
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    path.write_text(f'{{"source": {json.dumps(device)},\n"timings": [\n{lines}\n]}}\n')
    return path


def _timing(row: dict[str, Any]) -> Timing:
    """A timing read from JSON. Raises ValueError or KeyError."""
    timing = Timing(Condition(*(row[name] for name in Condition._fields)), *(row[name] for name in Timing._fields[1:]))
    if not (0 < timing.ratio < math.inf and min(timing[1:4]) >= 1):
        raise ValueError(row)
    return timing
