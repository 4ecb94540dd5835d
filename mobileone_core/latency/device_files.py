"""Measurements made elsewhere, as files: our JSON and CSV. No torch here."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import LONGEST, STATISTICS, DeviceMeasurement, sample_statistics, to_milliseconds

SCHEMA = 1
REQUIRED = ("model_hash", "device", "os", "compute_units", "protocol", "unit", "n", "date")
TEXTS = ("app", "thermal", "battery")
OPTIONAL = ("statistics", "samples", "load", "placement", *TEXTS)
TRIMMED = "modelbench"  # its average leaves calls out, so that the mean of all samples is another number

FORMAT = """\
JSON, schema 1: {"schema": 1, "measurements": [{...}, ...]}, each with
  model_hash     as the manifest of the export has it
  device, os     "iPhone 12", "iOS 17.4"
  compute_units  all, cpu_and_ne, cpu_and_gpu or cpu_only
  protocol       modelbench, xcode-report, remote-device, mac-interleaved or other:NAME
  unit           ms, s or us, of every time in the measurement
  n              predictions, 1 or more; the number of samples where they are given
  date           YYYY-MM-DD
  statistics     {"min": T, "low": T, "median": T, "average": T, "p90": T, "max": T}: those that are known
  samples        [T, ...], every prediction; what is known then follows from them
  load, placement, app, thermal, battery   where known: time to load, {"NeuralEngine": operators, ...}, texts
CSV, a line a measurement: columns schema (1) and the names above, of statistics a column each (min, low, ...), samples
parted by spaces, placement as NeuralEngine=43 CPU=2. Empty cells are not known. No other fields are taken."""


def read_measurements(path: Path, given: Mapping[str, Any]) -> tuple[DeviceMeasurement, ...]:
    """All measurements of a file, with what is given beside it where the file does not say it.

    Raises InputError, which names file, measurement and field, for the first that is wrong.
    """
    kinds = {".json": _read_json, ".csv": _read_csv}
    require(path.suffix.lower() in kinds, "file", path.name, f"a file that ends in {' or '.join(kinds)}, or .mlperf")
    require(path.is_file(), "file", str(path), "an existing file")
    try:
        items = kinds[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name}: not readable as {path.suffix[1:].upper()} ({error})") from error
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    found = []
    for number, item in enumerate(items, start=1):
        try:
            found.append(measurement(_completed(item, given)))
        except InputError as error:
            raise InputError(f"{path.name}, measurement {number}: {error}") from error
    if not found:
        raise InputError(f"{path.name}: no measurement in it")
    return tuple(found)


def measurement(item: Mapping[str, Any]) -> DeviceMeasurement:
    """One measurement from its fields in the unit named; InputError."""
    for name in item:
        require(name in (*REQUIRED, *OPTIONAL), "field", name, f"one of {', '.join((*REQUIRED, *OPTIONAL))}")
    for name in REQUIRED:
        require(name in item, name, None, "it must be given")
    unit = str(item["unit"])
    given, samples = item.get("statistics", {}), item.get("samples", [])
    require(isinstance(given, dict), "statistics", given, f"times by name: {', '.join(STATISTICS)}")
    require(isinstance(samples, list), "samples", samples, "a list of times")
    times = [to_milliseconds(value, unit, "samples") for value in samples]
    statistics = {name: to_milliseconds(value, unit, name) for name, value in given.items()}
    load = item.get("load")
    texts: dict[str, Any] = {name: _text(name, item[name]) for name in TEXTS if name in item}
    return DeviceMeasurement(
        **{name: item[name] for name in REQUIRED if name != "unit"},
        statistics={**_derived(times, str(item["protocol"])), **statistics},
        samples=times,
        load_ms=None if load is None else to_milliseconds(load, unit, "load"),
        placement=_placement(item.get("placement", {})),
        **texts,
    )


def _completed(item: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A hash that is no known model's is refused later, with its own cure."""
    for name, value in given.items():
        fits = name == "model_hash" or item.get(name, value) == value
        require(fits, name, value, f"what the file says, which is {item.get(name)!r}")
    return {**given, **item}


def _derived(times: Sequence[float], protocol: str) -> dict[str, float]:
    found = sample_statistics(times) if times else {}
    return {name: value for name, value in found.items() if (name, protocol) != ("average", TRIMMED)}


def _text(name: str, value: object) -> str:
    require(isinstance(value, str) and len(value) <= LONGEST, name, value, f"a text of at most {LONGEST} characters")
    return str(value)


def _placement(value: object) -> dict[str, int]:
    fits = isinstance(value, dict) and all(isinstance(count, int) and count >= 0 for count in value.values())
    require(fits, "placement", value, "numbers of operators by unit")
    return dict(value)  # type: ignore[call-overload,no-any-return]


def _read_json(text: str) -> Sequence[Mapping[str, Any]]:
    content = json.loads(text)
    require(isinstance(content, dict), "content", type(content).__name__, 'an object with "schema" and "measurements"')
    schema, items = content.get("schema"), content.get("measurements")
    require(schema == SCHEMA and not isinstance(schema, bool), "schema", schema, f"this version reads {SCHEMA}")
    fits = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    require(fits, "measurements", type(items).__name__, "a list of objects")
    found: Sequence[Mapping[str, Any]] = items
    return found


def _read_csv(text: str) -> Sequence[Mapping[str, Any]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    names = reader.fieldnames or []
    known = ("schema", *REQUIRED, *(name for name in OPTIONAL if name != "statistics"), *STATISTICS)
    for name in names:
        require(name in known, "column", name, f"one of {', '.join(known)}")
    require(len(set(names)) == len(names), "columns", names, "each once")
    lines = list(reader)
    require(
        all(None not in line and None not in line.values() for line in lines), "lines", len(lines), "of equal length"
    )
    for line in lines:
        require(line.get("schema") == str(SCHEMA), "schema", line.get("schema"), f"this version reads {SCHEMA}")
    return [_plain({name: cell.strip() for name, cell in line.items() if cell.strip()}) for line in lines]


def _plain(line: dict[str, str]) -> dict[str, Any]:
    """A line as JSON has it."""
    found: dict[str, Any] = {name: cell for name, cell in line.items() if name not in (*STATISTICS, "schema")}
    found["statistics"] = {name: _number(line[name], name) for name in STATISTICS if name in line}
    if "n" in line:
        found["n"] = int(line["n"]) if line["n"].isdecimal() else line["n"]
    if "samples" in line:
        found["samples"] = [_number(text, "samples") for text in line["samples"].split()]
    if "load" in line:
        found["load"] = _number(line["load"], "load")
    if "placement" in line:
        pairs = [text.partition("=") for text in line["placement"].split()]
        found["placement"] = {unit: int(count) if count.isdecimal() else count for unit, _, count in pairs}
    return found


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError.of(name, text, "a number") from error
