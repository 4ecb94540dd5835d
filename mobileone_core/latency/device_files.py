"""Measurements on devices as files (our JSON and CSV, Xcode's performance report), and manifests of exported models."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, refusing, require, require_choice
from mobileone_core.files import read_text
from mobileone_core.latency import device

SCHEMA = 1
REQUIRED = ("model_hash", "device", "os", "compute_units", "protocol", "unit", "n", "date")
TEXTS = ("app", "thermal", "battery")
OPTIONAL = ("statistics", "samples", "load", "placement", *TEXTS)
REPORT = "report.json"
KINDS = {"prediction": r"predict|inference", "load": r"load", "compile": r"compil"}
UNIT = re.compile(r"(?P<NeuralEngine>neural\s*engine|\bane\b)|(?P<GPU>\bgpu\b)|(?P<CPU>\bcpu\b)", re.IGNORECASE)
UNIT_KEYS = re.compile(r"device|compute|unit|preferred|placement", re.IGNORECASE)
UNIT_OF_KEY = (
    (r"(?:^|[_.])(?:us|usec)$|Us$|micro", "us"),
    (r"(?:^|[_.])ms$|Ms$|MS$|milli", "ms"),
    (r"(?:^|[_.])(?:s|sec)$|second", "s"),
)

FORMAT = """\
JSON, schema 1: {"schema": 1, "measurements": [{...}, ...]}, each with
  model_hash     as in the manifest of the export
  device, os     "iPhone 12", "iOS 17.4"
  compute_units  all, cpu_and_ne, cpu_and_gpu or cpu_only
  protocol       modelbench, xcode-report, remote-device, mac-interleaved or other:NAME
  unit           ms, s or us, for every time in the measurement
  n              number of predictions, 1 or more; the number of samples if they are given
  date           YYYY-MM-DD
  statistics     {"min": T, "low": T, "median": T, "average": T, "p90": T, "max": T}, any of them
  samples        [T, ...], every prediction; statistics that follow from them need not be given
  load, placement, app, thermal, battery   optional: time to load, {"NeuralEngine": operators, ...}, texts
CSV, one line per measurement: columns schema (1) and the names above, one column per statistic (min, low, ...), samples
separated by spaces, placement as NeuralEngine=43 CPU=2. Empty cells are left out. Other fields are refused."""


def read_measurements(path: Path, given: Mapping[str, Any]) -> tuple[device.DeviceMeasurement, ...]:
    """All measurements of a JSON or CSV file; given: fields it may leave out. Raises InputError for a wrong one."""
    kinds = {".json": _read_json, ".csv": _read_csv}
    require(path.suffix.lower() in kinds, "file", path.name, f"a file that ends in {' or '.join(kinds)}, or .mlperf")
    require(path.is_file(), "file", str(path), "an existing file")
    text = read_text(path)
    try:
        items = kinds[path.suffix.lower()](text)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path.name}: not readable as {path.suffix[1:].upper()} ({error})") from error
    measurements = []
    for number, item in enumerate(items, start=1):
        try:
            for name, value in given.items():  # a wrong model_hash is refused later, with a better message
                fits = name == "model_hash" or item.get(name, value) == value
                require(fits, name, value, f"the value in the file, which is {item.get(name)!r}")
            measurements.append(measurement({**given, **item}))
        except (InputError, RecursionError) as error:
            raise InputError(f"{path.name}, measurement {number}: {error}") from error
    if not measurements:
        raise InputError(f"{path.name}: no measurement in it")
    return tuple(measurements)


def measurement(item: Mapping[str, Any]) -> device.DeviceMeasurement:
    """Build a measurement from the format's fields, times in item['unit']. Raises InputError for a wrong one."""
    for name in item:
        require_choice("field", name, (*REQUIRED, *OPTIONAL))
    for name in REQUIRED:
        require(name in item, name, None, "it must be given")
    unit = str(item["unit"])
    given, samples = item.get("statistics", {}), item.get("samples", [])
    require(isinstance(given, dict), "statistics", given, f"times by name: {', '.join(device.STATISTICS)}")
    require(isinstance(samples, list), "samples", samples, "a list of times")
    for name in given:  # before its value, whose refusal names it: a name may hold any character
        require_choice("statistics", name, device.STATISTICS)
    times = [device.to_milliseconds(value, unit, "samples") for value in samples]
    statistics = {name: device.to_milliseconds(value, unit, name) for name, value in given.items()}
    derived = device.sample_statistics(times) if times else {}
    if item["protocol"] == "modelbench":  # its average leaves calls out: the mean of all samples is another number
        derived.pop("average", None)
    load, placement = item.get("load"), item.get("placement", {})
    require(isinstance(placement, dict), "placement", placement, "numbers of operators by unit")
    fields = {name: item[name] for name in (*REQUIRED, *TEXTS) if name in item and name != "unit"}
    fields |= {"statistics": {**derived, **statistics}, "samples": times, "placement": placement}
    load_ms = None if load is None else device.to_milliseconds(load, unit, "load")
    return device.DeviceMeasurement(**fields, load_ms=load_ms)


def _read_json(text: str) -> Sequence[Mapping[str, Any]]:
    """The measurements of a JSON file, as objects. Raises InputError."""
    content = json.loads(text)
    require(isinstance(content, dict), "content", type(content).__name__, 'an object with "schema" and "measurements"')
    schema, items = content.get("schema"), content.get("measurements")
    require(schema == SCHEMA and not isinstance(schema, bool), "schema", schema, f"this version reads {SCHEMA}")
    fits = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    require(fits, "measurements", type(items).__name__, "a list of objects")
    return list(items)


def _read_csv(text: str) -> Sequence[Mapping[str, Any]]:
    """The measurements of a CSV file, as objects like those of a JSON file. Raises InputError."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    names = reader.fieldnames or []
    columns = ("schema", *REQUIRED, *(name for name in OPTIONAL if name != "statistics"), *device.STATISTICS)
    for name in names:
        require_choice("column", name, columns)
    require(len(set(names)) == len(names), "columns", names, "each once")
    lines = list(reader)
    for line in lines:
        require(None not in (*line, *line.values()), "lines", len(lines), "of equal length")
        require(line.get("schema") == str(SCHEMA), "schema", line.get("schema"), f"this version reads {SCHEMA}")
    return [_plain({name: cell.strip() for name, cell in line.items() if cell.strip()}) for line in lines]


def _plain(line: dict[str, str]) -> dict[str, Any]:
    """A CSV line as the JSON object it stands for."""
    item: dict[str, Any] = {name: cell for name, cell in line.items() if name not in (*device.STATISTICS, "schema")}
    item["statistics"] = {name: _number(line[name], name) for name in device.STATISTICS if name in line}
    if "n" in line:
        item["n"] = int(line["n"]) if line["n"].isdecimal() else line["n"]
    if "samples" in line:
        item["samples"] = [_number(text, "samples") for text in line["samples"].split()]
    if "load" in line:
        item["load"] = _number(line["load"], "load")
    if "placement" in line:
        pairs = [text.partition("=") for text in line["placement"].split()]
        item["placement"] = {unit: int(count) if count.isdecimal() else count for unit, _, count in pairs}
    return item


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError.of(name, text, "a number") from error


def read_manifest(path: Path, title: str = "") -> device.ExportedModel:
    """The exported model that a manifest describes; title names it if the manifest does not. Raises InputError."""
    require(path.is_file(), "manifest", str(path), "an existing file; `mobileone export` writes it next to a package")
    with refusing(f"manifest {path.name}: not readable as JSON"):
        content = json.loads(read_text(path))
    require(isinstance(content, dict), "manifest", path.name, "an object, as `mobileone export` writes it")
    metadata = content.get("metadata", content.get("told"))  # older manifests call it told
    if isinstance(metadata, dict):
        content = {**{name.removeprefix("mobileone."): value for name, value in metadata.items()}, **content}
    more = {name: _first_text(content, name) for name in ("variant", "form", "precision", "input")}
    model_hash = _first_text(content, "model_hash", "package_hash", "hash")
    title = _first_text(content, "model", "title") or (f"mobileone_{more['variant']}" if more["variant"] else title)
    allowed = "an object with model, title or variant, and with model_hash, package_hash or hash"
    require(bool(title and model_hash), "manifest", path.name, allowed)
    return device.ExportedModel(title, model_hash, **more)


def find_manifest(package: Path) -> Path | None:
    """The manifest inside a package, or next to it with the ending .json; None if there is neither."""
    inside = sorted(path for path in package.glob("*.json") if path.name != "Manifest.json")  # Core ML's
    return next((path for path in (*inside, package.with_suffix(".json")) if path.is_file()), None)


def _first_text(content: Mapping[str, Any], *names: str) -> str:
    """The first of the named values that is a non-empty text; empty if there is none."""
    return next((content[name] for name in names if isinstance(content.get(name), str) and content[name]), "")


@dataclass(frozen=True)
class ReportedTime:
    """A number of the report that may be a median time: of what (a key of KINDS), its path in the JSON, its value.

    unit: the one that its key names; empty if it names none.
    """

    kind: str
    path: str
    value: float
    unit: str


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
    allowed = f"one of {', '.join(device.MILLISECONDS)}: the report does not name it; {advice}"
    require(unit in device.MILLISECONDS, "unit", unit, allowed)
    return device.to_milliseconds(medians[0].value, unit, "median")


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
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < device.MOST
    kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, path, re.IGNORECASE)), "")
    is_median = is_time and kind and re.search("median", path, re.IGNORECASE)
    unit = next((unit for pattern, unit in UNIT_OF_KEY if re.search(pattern, path)), "")
    return ReportedTime(kind, path, float(value), unit) if is_median else None  # type: ignore[arg-type]
