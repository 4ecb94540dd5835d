"""Xcode's performance report, X.mlperf with report.json: values that look like medians, for a person to confirm."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileone_core.errors import refusing, require
from mobileone_core.files import read_text
from mobileone_core.latency.device import MILLISECONDS, MOST, to_milliseconds

REPORT = "report.json"
KINDS = {"prediction": r"predict|inference", "load": r"load", "compile": r"compil"}
UNIT = re.compile(r"(?P<NeuralEngine>neural\s*engine|\bane\b)|(?P<GPU>\bgpu\b)|(?P<CPU>\bcpu\b)", re.IGNORECASE)
UNIT_KEYS = re.compile(r"device|compute|unit|preferred|placement", re.IGNORECASE)
UNIT_OF_KEY = (
    (r"(?:^|[_.])(?:us|usec)$|Us$|micro", "us"),
    (r"(?:^|[_.])ms$|Ms$|MS$|milli", "ms"),
    (r"(?:^|[_.])(?:s|sec)$|second", "s"),
)


@dataclass(frozen=True)
class ReportedTime:
    """A number of the report that may be a median time: of what (a key of KINDS), its path in the JSON, its value."""

    kind: str
    path: str
    value: float

    @property
    def unit(self) -> str:
        """The unit that its key names; empty if it names none."""
        return next((unit for pattern, unit in UNIT_OF_KEY if re.search(pattern, self.path)), "")


@dataclass(frozen=True)
class XcodeReport:
    """Times in a report, and how often it names each compute unit."""

    times: tuple[ReportedTime, ...]
    placement: dict[str, int]

    def lines(self) -> list[str]:
        """The times with their paths in the report's JSON, and the compute units, for a person to read."""
        texts = [(item.kind, f"{item.value:g} {item.unit or '(unit not named)'}", item.path) for item in self.times]
        times = [f"  {kind}: {value} at {path}" for kind, value, path in texts]
        units = ", ".join(f"{name} {count}" for name, count in sorted(self.placement.items()))
        return [*(times or ["  no median"]), f"  compute units named: {units or 'none'}"]


def read_report(path: Path) -> XcodeReport:
    """Search a performance report X.mlperf for times and compute units. Raises InputError if it is not readable."""
    files = sorted(path.rglob(REPORT)) if path.is_dir() else []
    require(len(files) == 1, "file", str(path), f"an Xcode performance report with one {REPORT} in it")
    with refusing(f"{path.name}/{REPORT}: not readable as JSON"):
        leaves = list(_leaves(json.loads(read_text(files[0])), ""))
    times = [time for key, value in leaves if (time := _reported_time(key, value)) is not None]
    named = [UNIT.search(value) for key, value in leaves if isinstance(value, str) and UNIT_KEYS.search(key)]
    return XcodeReport(tuple(times), dict(Counter(str(match.lastgroup) for match in named if match)))


def confirmed_median(report: XcodeReport, advice: str, unit: str) -> float:
    """The only prediction median, in milliseconds, in unit or the report's. Raises InputError that ends with advice."""
    medians = [item for item in report.times if item.kind == "prediction"]
    require(len(medians) == 1, "median", [item.path for item in medians], f"one prediction median; {advice}")
    unit = unit or medians[0].unit
    allowed = f"one of {', '.join(MILLISECONDS)}: the report does not name it; {advice}"
    require(unit in MILLISECONDS, "unit", unit, allowed)
    return to_milliseconds(medians[0].value, unit, "median")


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The values of nested JSON with their paths, such as runs[0].median."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, content


def _reported_time(path: str, value: object) -> ReportedTime | None:
    """The value as a median time, or None if its path does not look like one."""
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST
    kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, path, re.IGNORECASE)), "")
    is_median = is_time and kind and re.search("median", path, re.IGNORECASE)
    return ReportedTime(kind, path, float(value)) if is_median else None  # type: ignore[arg-type]
