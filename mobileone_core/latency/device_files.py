"""Measurements on devices as files, in our JSON and CSV, and the manifests of exported models."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, refusing, require, require_choice
from mobileone_core.files import read_text
from mobileone_core.latency.device import (
    STATISTICS,
    DeviceMeasurement,
    ExportedModel,
    sample_statistics,
    to_milliseconds,
)

SCHEMA = 1
REQUIRED = ("model_hash", "device", "os", "compute_units", "protocol", "unit", "n", "date")
TEXTS = ("app", "thermal", "battery")
OPTIONAL = ("statistics", "samples", "load", "placement", *TEXTS)
TRIMMED = "modelbench"  # its average leaves calls out, so that the mean of all samples is another number
PREFIX = "mobileone."  # of an export's metadata
PACKAGE_MANIFEST = "Manifest.json"  # belongs to the package format of Core ML

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


def read_measurements(path: Path, given: Mapping[str, Any]) -> tuple[DeviceMeasurement, ...]:
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


def measurement(item: Mapping[str, Any]) -> DeviceMeasurement:
    """Build a measurement from the format's fields, times in item['unit']. Raises InputError for a wrong one."""
    for name in item:
        require_choice("field", name, (*REQUIRED, *OPTIONAL))
    for name in REQUIRED:
        require(name in item, name, None, "it must be given")
    unit = str(item["unit"])
    given, samples = item.get("statistics", {}), item.get("samples", [])
    require(isinstance(given, dict), "statistics", given, f"times by name: {', '.join(STATISTICS)}")
    require(isinstance(samples, list), "samples", samples, "a list of times")
    times = [to_milliseconds(value, unit, "samples") for value in samples]
    statistics = {name: to_milliseconds(value, unit, name) for name, value in given.items()}
    derived = sample_statistics(times) if times else {}
    if item["protocol"] == TRIMMED:
        derived.pop("average", None)
    load, placement = item.get("load"), item.get("placement", {})
    require(isinstance(placement, dict), "placement", placement, "numbers of operators by unit")
    fields = {name: item[name] for name in (*REQUIRED, *TEXTS) if name in item and name != "unit"}
    fields |= {"statistics": {**derived, **statistics}, "samples": times, "placement": placement}
    return DeviceMeasurement(**fields, load_ms=None if load is None else to_milliseconds(load, unit, "load"))


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
    columns = ("schema", *REQUIRED, *(name for name in OPTIONAL if name != "statistics"), *STATISTICS)
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
    item: dict[str, Any] = {name: cell for name, cell in line.items() if name not in (*STATISTICS, "schema")}
    item["statistics"] = {name: _number(line[name], name) for name in STATISTICS if name in line}
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


def read_manifest(path: Path, title: str = "") -> ExportedModel:
    """The exported model that a manifest describes; title names it if the manifest does not. Raises InputError."""
    require(path.is_file(), "manifest", str(path), "an existing file; `mobileone export` writes it next to a package")
    with refusing(f"manifest {path.name}: not readable as JSON"):
        content = json.loads(read_text(path))
    require(isinstance(content, dict), "manifest", path.name, "an object, as `mobileone export` writes it")
    metadata = content.get("metadata", content.get("told"))  # older manifests call it told
    if isinstance(metadata, dict):
        content = {**{name.removeprefix(PREFIX): value for name, value in metadata.items()}, **content}
    more = {name: _first_text(content, name) for name in ("variant", "form", "precision", "input")}
    model_hash = _first_text(content, "model_hash", "package_hash", "hash")
    title = _first_text(content, "model", "title") or (f"mobileone_{more['variant']}" if more["variant"] else title)
    allowed = "an object with model, title or variant, and with model_hash, package_hash or hash"
    require(bool(title and model_hash), "manifest", path.name, allowed)
    return ExportedModel(title, model_hash, **more)


def find_manifest(package: Path) -> Path | None:
    """The manifest inside a package, or next to it with the ending .json; None if there is neither."""
    inside = sorted(path for path in package.glob("*.json") if path.name != PACKAGE_MANIFEST)
    return next((path for path in (*inside, package.with_suffix(".json")) if path.is_file()), None)


def _first_text(content: Mapping[str, Any], *names: str) -> str:
    """The first of the named values that is a non-empty text; empty if there is none."""
    return next((content[name] for name in names if isinstance(content.get(name), str) and content[name]), "")
