"""Xcode's performance report, X.mlperf with report.json: its keys are undocumented, so what looks right is searched,
shown and confirmed by a person, never trusted. No torch here."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import MILLISECONDS, to_milliseconds

REPORT = "report.json"
KINDS = {"prediction": r"predict|inference", "load": r"load", "compile": r"compil"}
UNIT = re.compile(r"neural\s*engine|\bane\b|\bgpu\b|\bcpu\b", re.IGNORECASE)
UNIT_KEYS = re.compile(r"device|compute|unit|preferred|placement", re.IGNORECASE)
UNIT_NAMES = {"neuralengine": "NeuralEngine", "ane": "NeuralEngine", "gpu": "GPU", "cpu": "CPU"}
UNIT_OF_KEY = (
    (r"(?:^|[_.])(?:us|usec)$|Us$|micro", "us"),
    (r"(?:^|[_.])ms$|Ms$|MS$|milli", "ms"),
    (r"(?:^|[_.])(?:s|sec)$|second", "s"),
)


@dataclass(frozen=True)
class Finding:
    """A number of the report that may be a median: where it stands, and what it may be."""

    kind: str
    path: str
    value: float

    @property
    def unit(self) -> str:
        """The unit that its key names; empty where it names none."""
        return next((unit for pattern, unit in UNIT_OF_KEY if re.search(pattern, self.path)), "")


@dataclass(frozen=True)
class Report:
    """What was found in a report, and in how many places it names each compute unit."""

    findings: tuple[Finding, ...]
    placement: dict[str, int]

    def lines(self) -> list[str]:
        """What a person is shown."""
        found = [
            f"  {item.kind}: {item.value:g} {item.unit or '(unit not named)'} at {item.path}" for item in self.findings
        ]
        units = ", ".join(f"{name} {count}" for name, count in sorted(self.placement.items()))
        return [*(found or ["  no median"]), f"  compute units named: {units or 'none'}"]

    @property
    def medians(self) -> tuple[Finding, ...]:
        """Those of predictions."""
        return tuple(item for item in self.findings if item.kind == "prediction")


def report_file(path: Path) -> Path:
    """The report.json of a performance report, given as X.mlperf; InputError."""
    found = sorted(path.rglob(REPORT)) if path.is_dir() else []
    require(len(found) == 1, "file", str(path), f"an Xcode performance report with one {REPORT} in it")
    return found[0]


def read_report(path: Path) -> Report:
    """Search a performance report; InputError where it is not readable."""
    try:
        content = json.loads(report_file(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}/{REPORT}: not readable as JSON ({error})") from error
    leaves = list(_leaves(content, ""))
    findings = [found for place, value in leaves if (found := _finding(place, value)) is not None]
    units = Counter(_unit(value) for place, value in leaves if isinstance(value, str) and UNIT_KEYS.search(place))
    return Report(tuple(findings), {name: count for name, count in units.items() if name})


def confirmed_median(report: Report, asked: str, unit: str) -> float:
    """The prediction median in milliseconds that was found, where it is the only one; InputError where a person has to
    say it. asked tells how."""
    medians = report.medians
    require(len(medians) == 1, "median", [item.path for item in medians], f"one prediction median; {asked}")
    known = unit or medians[0].unit
    require(
        known in MILLISECONDS, "unit", known, f"one of {', '.join(MILLISECONDS)}: the report does not name it; {asked}"
    )
    return to_milliseconds(medians[0].value, known, "median")


def _leaves(content: Any, place: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _leaves(value, f"{place}.{name}" if place else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{place}[{number}]")
    else:
        yield place, content


def _finding(place: str, value: object) -> Finding | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    if not is_time or not re.search("median", place, re.IGNORECASE):
        return None
    kind = next((kind for kind, words in KINDS.items() if re.search(words, place, re.IGNORECASE)), "")
    return Finding(kind, place, float(value)) if kind else None  # type: ignore[arg-type]


def _unit(text: str) -> str:
    found = UNIT.search(text)
    return UNIT_NAMES[re.sub(r"\s", "", found.group().lower())] if found else ""
