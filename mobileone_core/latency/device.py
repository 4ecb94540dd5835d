"""A latency measured on a device of Apple's, as data: which model, where, how, and what came out. No torch here."""

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from mobileone_core.errors import InputError, require

Units = Literal["all", "cpu_and_ne", "cpu_and_gpu", "cpu_only"]
PROTOCOLS = ("modelbench", "xcode-report", "remote-device", "mac-interleaved")
OTHER = "other:"
STATISTICS = ("min", "low", "median", "average", "p90", "max")
RISING = (
    *(("min", name) for name in ("low", "median", "average", "p90", "max")),
    *(("median", "p90"), ("median", "max"), ("p90", "max"), ("low", "average"), ("average", "max")),
)
MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
LONGEST = 200  # characters of a text
SLACK = 1e-9  # of a statistic against the samples it came from: the last digit of a conversion


@dataclass(frozen=True)
class KnownModel:
    """A Core ML model that was exported here: title (mobileone_s0) and hash of program and weights."""

    model: str
    model_hash: str
    variant: str = ""
    form: str = ""
    precision: str = ""
    input: str = ""


@dataclass(frozen=True)
class DeviceMeasurement:
    """One model on one device by one protocol. statistics: milliseconds by name, none derived from another; samples:
    every prediction in milliseconds, where they are known; placement: operators by the unit that runs them; load_ms and
    thermal and battery state where known. Raises InputError.
    """

    model_hash: str
    device: str
    os: str
    compute_units: str
    protocol: str
    n: int
    statistics: Mapping[str, float]
    date: str
    samples: Sequence[float] = ()
    app: str = ""
    thermal: str = ""
    battery: str = ""
    load_ms: float | None = None
    placement: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fits = isinstance(self.model_hash, str) and re.fullmatch(r"[0-9a-f]{64}", self.model_hash) is not None
        require(fits, "model_hash", self.model_hash, "64 hexadecimal digits, as the manifest of an export has them")
        for name in ("device", "os"):
            value = getattr(self, name)
            fits = isinstance(value, str) and re.fullmatch(r".*\w.*", value) is not None and len(value) <= LONGEST
            require(fits, name, value, 'its name, such as "iPhone 12" and "iOS 17.4"')
        allowed = f"one of {', '.join(get_args(Units))}"
        require(self.compute_units in get_args(Units), "compute_units", self.compute_units, allowed)
        require_protocol(self.protocol)
        fits = isinstance(self.n, int) and not isinstance(self.n, bool) and self.n >= 1
        require(fits, "n", self.n, "how many predictions, an integer of 1 or more")
        for unit in self.placement:
            require(re.fullmatch(r"\w[\w .-]*", unit) is not None, "placement", unit, "a unit's name, as NeuralEngine")
        _require_date(self.date)
        _require_times(self)


def require_protocol(protocol: object) -> None:
    """Raise InputError for a protocol that is not in the list."""
    fits = isinstance(protocol, str) and (protocol in PROTOCOLS or re.fullmatch(r"other:[\w.-]+", protocol) is not None)
    require(fits, "protocol", protocol, f"one of {', '.join(PROTOCOLS)} or {OTHER}NAME")


def sample_statistics(samples: Sequence[float]) -> dict[str, float]:
    """Minimum, median, average, 90 % quantile and maximum of all samples, in their unit."""
    data = np.asarray(samples, dtype=np.float64)
    return {
        "min": float(data.min()),
        "median": float(np.median(data)),
        "average": float(data.mean()),
        "p90": float(np.quantile(data, 0.9)),
        "max": float(data.max()),
    }


def to_milliseconds(value: object, unit: str, name: str) -> float:
    """A finite positive time in milliseconds; InputError for any other value or unit."""
    require(unit in MILLISECONDS, "unit", unit, f"one of {', '.join(MILLISECONDS)}")
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    require(fits, name, value, "a finite time above 0")
    return float(value) * MILLISECONDS[unit]  # type: ignore[arg-type]


def known_by_hash(models: Sequence[KnownModel], model_hash: str) -> KnownModel:
    """The exported model of this hash; InputError, with the cure, where none is known."""
    for item in models:
        if item.model_hash == model_hash:
            return item
    given = ", ".join(item.model_hash[:12] for item in models) or "none"
    raise InputError(
        f"model_hash: {model_hash!r} is no export that is known (given: {given}); name the manifest that `mobileone "
        "export` wrote beside the package with --manifest FILE, or the package with --package FILE, or export it anew"
    )


def _require_date(date: object) -> None:
    try:
        found = datetime.date.fromisoformat(date if isinstance(date, str) and "-" in date else "")
    except ValueError:
        found = None
    is_past = found is not None and found <= datetime.date.today() + datetime.timedelta(days=1)  # time zones
    require(is_past, "date", date, "the day of the measurement as YYYY-MM-DD, not one to come")


def _require_times(measured: DeviceMeasurement) -> None:
    found = measured.statistics
    require(bool(found), "statistics", dict(found), f"one or more of {', '.join(STATISTICS)}, or samples")
    for name, value in found.items():
        require(name in STATISTICS, "statistics", name, f"one of {', '.join(STATISTICS)}")
        to_milliseconds(value, "ms", name)
    for low, high in RISING:
        rises = low not in found or high not in found or found[low] <= found[high] * (1 + SLACK)
        require(rises, high, found.get(high), f"no less than {low}, which is {found.get(low)}")
    if measured.samples:
        _require_samples(measured)
    if measured.load_ms is not None:
        to_milliseconds(measured.load_ms, "ms", "load_ms")


def _require_samples(measured: DeviceMeasurement) -> None:
    times = [to_milliseconds(value, "ms", "samples") for value in measured.samples]
    require(len(times) == measured.n, "n", measured.n, f"the number of samples, which is {len(times)}")
    for name, value in measured.statistics.items():
        holds = min(times) * (1 - SLACK) <= value <= max(times) * (1 + SLACK)
        require(holds, name, value, f"within the samples, {min(times):g} to {max(times):g} ms")
