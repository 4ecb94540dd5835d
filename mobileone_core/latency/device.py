"""A latency measured on an Apple device, as data: which model, on which device, how, and the result."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from mobileone_core.errors import InputError, require, require_choice, require_integer

Units = Literal["all", "cpu_and_ne", "cpu_and_gpu", "cpu_only"]
PROTOCOLS = ("modelbench", "xcode-report", "remote-device", "mac-interleaved")
STATISTICS = ("min", "low", "median", "average", "p90", "max")
RISING = (  # pairs of statistics of which the first is never the larger
    *(("min", name) for name in ("low", "median", "average", "p90", "max")),
    *(("median", "p90"), ("median", "max"), ("p90", "max"), ("low", "average"), ("average", "max")),
)
MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
LONGEST = 200  # characters of a text
MOST = 10**9  # predictions, operators, and milliseconds
ROUNDING = 1e-9  # relative: the last digit of a unit conversion


@dataclass(frozen=True)
class ExportedModel:
    """An exported Core ML model: title (mobileone_s0), hash of program and weights, how exported. Raises InputError."""

    model: str
    model_hash: str
    variant: str = ""
    form: str = ""
    precision: str = ""
    input: str = ""

    def __post_init__(self) -> None:
        for name, text in vars(self).items():
            require(text == "" or is_plain_text(text), name, text, PLAIN_TEXT)


@dataclass(frozen=True)
class DeviceMeasurement:
    """One model on one device by one protocol. Raises InputError.

    n: predictions. statistics: milliseconds by name, at least one, none of them derived from another. samples: every
    prediction in milliseconds, if recorded. placement: number of operators by the compute unit that runs them. load_ms,
    thermal state and battery level if recorded.
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
        require(fits, "model_hash", self.model_hash, "64 hexadecimal digits, as in the manifest of an export")
        for name in ("device", "os"):
            value = getattr(self, name)
            require(is_plain_text(value), name, value, f'a name such as "iPhone 12" or "iOS 17.4": {PLAIN_TEXT}')
        for name in ("app", "thermal", "battery"):
            value = getattr(self, name)
            require(value == "" or is_plain_text(value), name, value, PLAIN_TEXT)
        require_choice("compute_units", self.compute_units, get_args(Units))
        fits = self.protocol in PROTOCOLS or re.fullmatch(r"other:[\w.-]+", str(self.protocol)) is not None
        require(fits, "protocol", self.protocol, f"one of {', '.join(PROTOCOLS)} or other:NAME")
        require_integer("n", self.n, at_most=MOST)
        for unit, count in self.placement.items():
            require_integer("placement", count, at_least=0, at_most=MOST)
            require(re.fullmatch(r"\w[\w .-]*", unit) is not None, "placement", unit, "a unit's name, as NeuralEngine")
        _require_date(self.date)
        _require_times(self)


PLAIN_TEXT = f"a text of at most {LONGEST} printable characters that begins with a letter or a digit"


def is_plain_text(text: object) -> bool:
    """Whether a text is safe in tables, pages and spreadsheets: no control character, mark of direction or formula."""
    return isinstance(text, str) and len(text) <= LONGEST and text.isprintable() and text[:1].isalnum()


def sample_statistics(samples: Sequence[float]) -> dict[str, float]:
    """Minimum, median, average, 90 % quantile and maximum of samples, in their unit."""
    data = np.asarray(samples, dtype=np.float64)
    p90 = np.quantile(data, 0.9)
    values = {"min": data.min(), "median": np.median(data), "average": data.mean(), "p90": p90, "max": data.max()}
    return {name: float(value) for name, value in values.items()}


def to_milliseconds(value: object, unit: str, name: str) -> float:
    """A time in ms, s or us as milliseconds. Raises InputError unless it is finite and above 0."""
    require_choice("unit", unit, MILLISECONDS)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST
    require(fits, name, value, f"a finite time above 0 and below {MOST:,}")
    return float(value) * MILLISECONDS[unit]  # type: ignore[arg-type]


def model_by_hash(models: Sequence[ExportedModel], model_hash: str) -> ExportedModel:
    """The exported model with this hash. Raises InputError, which says how to name it, if there is none."""
    for item in models:
        if item.model_hash == model_hash:
            return item
    given = ", ".join(item.model_hash[:12] for item in models) or "none"
    raise InputError(
        f"model_hash: {model_hash!r} is none of the exports given ({given}); name the manifest that `mobileone export` "
        "wrote next to the package with --manifest FILE, or the package with --package FILE, or export it again"
    )


def _require_date(date: object) -> None:
    """Raise InputError unless it is an ISO date that is not in the future."""
    try:
        day = datetime.date.fromisoformat(date if isinstance(date, str) and "-" in date else "")
    except ValueError:
        day = None
    is_past = day is not None and day <= datetime.date.today() + datetime.timedelta(days=1)  # time zones
    require(is_past, "date", date, "the day of the measurement as YYYY-MM-DD, not in the future")


def _require_times(measured: DeviceMeasurement) -> None:
    """Raise InputError unless all times are valid, and statistics fit each other and the n samples."""
    statistics = measured.statistics
    require(bool(statistics), "statistics", dict(statistics), f"one or more of {', '.join(STATISTICS)}, or samples")
    for name, value in statistics.items():
        require_choice("statistics", name, STATISTICS)
        to_milliseconds(value, "ms", name)
    for low, high in RISING:
        if low in statistics and high in statistics:
            rises = statistics[low] <= statistics[high] * (1 + ROUNDING)
            require(rises, high, statistics[high], f"no less than {low}, which is {statistics[low]}")
    times = [to_milliseconds(value, "ms", "samples") for value in measured.samples]
    if times:
        require(len(times) == measured.n, "n", measured.n, f"the number of samples, which is {len(times)}")
        for name, value in statistics.items():
            holds = min(times) * (1 - ROUNDING) <= value <= max(times) * (1 + ROUNDING)
            require(holds, name, value, f"within the samples, {min(times):g} to {max(times):g} ms")
    if measured.load_ms is not None:
        to_milliseconds(measured.load_ms, "ms", "load_ms")
