"""The commands `mobileone latency import` and `run`: all is checked or measured before anything is recorded."""

import datetime
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE, Protocol
from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.latency import Import, Run
from mobileone_core.errors import InputError, require, require_integer
from mobileone_core.latency import device_files
from mobileone_core.latency.device import DeviceMeasurement, ExportedModel, model_by_hash, to_milliseconds
from mobileone_core.study.environment import processor
from mobileone_core.study.record.standalone import MeasurementSource, record_devices, recorded_measurements

TYPE_IT = "type it with --median-ms"


def import_measurements(options: Import) -> int:
    """Record latencies measured elsewhere and print them; return the exit status. Raises InputError."""
    if options.formats:
        print(device_files.FORMAT)
        return COMPLETE
    files = list(map(str, options.files))
    require(options.modelbench != bool(files), "file", files, "files, or --modelbench, not both")
    models = _read_models(options.models.manifest, options.models.package, options.models.title)
    inputs = [_modelbench(options, models)] if options.modelbench else []
    inputs += [(MeasurementSource("imported", path), _measured(options, path, models)) for path in options.files]
    sources = [(source, [(model_by_hash(models, item.model_hash), item) for item in items]) for source, items in inputs]
    _require_new(options, sources)
    for source, pairs in sources:
        run_ids = record_devices(options.storage.workspace, pairs, source, again=options.again)
        print("\n".join(_summary_line(*pair) for pair in pairs))
        print(f"recorded {len(run_ids)} of {len(pairs)} as run {', '.join(run_ids)} of the experiment device_latency")
        print("next: `mobileone ui` shows the runs, `mobileone report` the tables")
    return COMPLETE


def _read_models(manifests: Iterable[Path], packages: Iterable[Path], title: str) -> list[ExportedModel]:
    """The models of manifests and packages. Raises InputError if a manifest does not fit its package."""
    from mobileone_core.coreml.package import package_hash

    models = [device_files.read_manifest(path, title) for path in manifests]
    for package in packages:
        model_hash, manifest = package_hash(package), device_files.find_manifest(package)
        require(bool(manifest or title), "title", title, f"a title for {package.name}, which has no manifest")
        model = device_files.read_manifest(manifest, title) if manifest else ExportedModel(title, model_hash)
        fits = model.model_hash == model_hash
        require(fits, "package", package.name, f"the one of its manifest, {model.model_hash[:12]}; export it anew")
        models.append(model)
    return models


def _given(options: Import, models: Sequence[ExportedModel]) -> dict[str, Any]:
    """The fields of a measurement that the options give; with one model alone also its hash."""
    given: dict[str, Any] = {name: getattr(options, name) for name in ("device", "os", "protocol", "date", "n")}
    given |= {"compute_units": options.units, "model_hash": models[0].model_hash if len(models) == 1 else ""}
    return {name: value for name, value in given.items() if value not in ("", None)}


def _by_hand(options: Import, models: Sequence[ExportedModel], protocol: str) -> dict[str, Any]:
    """The fields of a measurement without a file of this package's format. Raises InputError if one is missing."""
    require(len(models) == 1, "manifest", len(models), "one model, whose numbers these are: --manifest or --package")
    require(options.protocol in ("", protocol), "protocol", options.protocol, protocol)
    given = {"date": datetime.date.today().isoformat(), **_given(options, models), "protocol": protocol}
    for name, option in (("device", "--device"), ("os", "--os"), ("compute_units", "--units")):
        require(name in given, name, given.get(name, ""), f"it must be given: {option}")
    return given


def _modelbench(options: Import, models: Sequence[ExportedModel]) -> tuple[MeasurementSource, list[DeviceMeasurement]]:
    """The numbers of the ModelBench app with the text that the record stores."""
    typed = {name: getattr(options, name) for name in ("low", "average") if getattr(options, name) is not None}
    for name in ("rounds", "calls"):
        require_integer(name, getattr(options, name))
    fields = {"n": options.rounds * options.calls, **_by_hand(options, models, "modelbench")}
    times = {name: to_milliseconds(value, "ms", name) for name, value in typed.items()}
    app = f"ModelBench, {options.rounds} rounds of {options.calls}"
    item = DeviceMeasurement(**fields, statistics=times, app=app)
    content = {name: value for name, value in vars(item).items() if value not in ("", (), None, {})}
    text = json.dumps({"typed": content}, indent=2, sort_keys=True) + "\n"
    return MeasurementSource("imported", name="modelbench.json", text=text), [item]


def _measured(options: Import, path: Path, models: Sequence[ExportedModel]) -> list[DeviceMeasurement]:
    if path.suffix.lower() != ".mlperf":
        return list(device_files.read_measurements(path, _given(options, models)))
    report = device_files.read_report(path)
    fields = _by_hand(options, models, "xcode-report")
    require("n" in fields, "n", None, "how many predictions the report made: --n")
    print("\n".join([f"{path.name}:", *report.lines()]))
    median = _median(options, report)
    return [DeviceMeasurement(**fields, statistics={"median": median}, app="Xcode", placement=report.placement)]


def _median(options: Import, report: device_files.XcodeReport) -> float:
    """The median as typed, or as read and confirmed. Raises InputError if nobody can confirm it."""
    if options.median_ms is not None:
        return to_milliseconds(options.median_ms, "ms", "median_ms")
    median = device_files.confirmed_median(report, TYPE_IT, options.unit or "")
    if not options.yes:
        allowed = f"confirmed by a person on a terminal, with --yes, or {TYPE_IT}"
        require(sys.stdin.isatty(), "median", f"{median:g} ms", allowed)
        answer = input(f"prediction median {median:g} ms: is this what Xcode shows? [y/N] ")
        require(answer.strip().lower() in ("y", "yes"), "median", f"{median:g} ms", f"confirmed; else {TYPE_IT}")
    return median


def _require_new(options: Import, sources: Sequence[tuple[MeasurementSource, Sequence[object]]]) -> None:
    """Raise InputError for files that are already recorded completely, before any is written."""
    hashes = [source.sha256 for source, _ in sources]
    require(len(set(hashes)) == len(hashes), "file", [str(path) for path in options.files], "each once")
    for source, items in sources:
        runs_by_item = {} if options.again else recorded_measurements(options.storage.workspace.tracking, source.sha256)
        if len(runs_by_item) >= len(items):
            name, runs = source.path.name if source.path else source.name, ", ".join(runs_by_item.values())
            raise InputError(f"file: {name} is in the record already, as run {runs}; --again records it once more")


def _summary_line(model: ExportedModel, item: DeviceMeasurement) -> str:
    times = ", ".join(f"{name} {value:#.4g} ms" for name, value in item.statistics.items())
    where = f"{item.device}, {item.os}, {item.compute_units}"
    return f"{model.model} ({model.model_hash[:12]}) on {where}, protocol {item.protocol}: {times} (n = {item.n})"


DIFFERENCE = 0.05  # of the largest output: maps in half precision on a Neural Engine differ by less
COARSE = (
    "protocol remote-device: each prediction copies four files and the chip idles in between; good for which unit runs "
    "an operator and for coarse numbers, not for the paper's latency"
)


def measure_on_device(options: Run) -> int:
    """Measure on an iPhone or this Mac, record, print the records; return the exit status. Raises InputError."""
    for name in ("model", "units"):
        values = tuple(map(str, getattr(options, name)))
        require(0 < len(values) == len(set(values)), name, values, "one or more, each once")
    require_integer("n", options.n)
    require(options.timeout > 0, "timeout", options.timeout, "seconds above 0")
    protocol = Protocol(rounds=options.rounds)
    from mobileone_core.coreml.iphone import Phone, measure_on_iphone
    from mobileone_core.coreml.mac import difference_from_evaluator, measure_on_mac
    from mobileone_core.coreml.xcode import require_macos

    require_macos("an iPhone" if options.device == "iphone" else "latency on a Mac")
    models = _read_models((), options.model, options.title)
    differences: list[float | None] = []
    if options.device == "iphone":
        work = options.work or options.storage.workspace.runs / "modelrunner"
        phone = Phone(options.team, work, options.name, options.timeout)
        results = measure_on_iphone(options.model, options.units, options.n, phone)
        differences += [None] * len(results)
    else:
        for package, units in itertools.product(options.model, options.units):
            differences.append(difference_from_evaluator(package, units))
            print(_difference_text(f"{package.name}, {units}", differences[-1]))
        results = measure_on_mac(options.model, options.units, protocol, f"Mac, {processor()}", lambda _: None)
    for item, difference in zip(results, differences, strict=True):
        model = model_by_hash(models, item.measurement.model_hash)
        raw = json.dumps(asdict(item.measurement), indent=2, sort_keys=True) + "\n"
        facts = {"control.json": {"ratio": item.control}, "prediction.json": {"difference_from_evaluator": difference}}
        texts = {name: json.dumps(fact) + "\n" for name, fact in facts.items() if None not in fact.values()}
        if item.operators:
            operators = [asdict(operator) for operator in item.operators]
            texts["placement.json"] = json.dumps(operators, indent=2) + "\n"
        source = MeasurementSource("measured", name="measurement.json", text=raw, texts=texts)
        (run_id,) = record_devices(options.storage.workspace, [(model, item.measurement)], source, again=True)
        print(_summary_line(model, item.measurement))
        placed = ", ".join(f"{unit} {count}" for unit, count in sorted(item.measurement.placement.items()))
        print(f"  operators by unit: {placed or 'no compute plan (iOS 17.4 and macOS 14.4 have them)'}; run {run_id}")
    control = results[0].control
    print(COARSE if control is None else _control_text(control))
    print("next: `mobileone ui` shows the runs of the experiment device_latency, `mobileone report` the tables")
    return COMPLETE


def _difference_text(name: str, value: float | None) -> str:
    if value is None:
        return f"{name}: predictions are not compared, it takes images"
    warning = "" if value <= DIFFERENCE else ": NOT the same network, do not ship it"
    return f"{name}: Core ML's outputs differ from the verified evaluator's by {value:.1e} of the largest{warning}"


def _control_text(ratio: float) -> str:
    text = f"control: the first model timed twice, ratio {ratio:.3f}"
    if abs(ratio - 1) <= CONTROL_TOLERANCE:
        return f"{text}, within {CONTROL_TOLERANCE:.0%}"
    return f"{text}, NOT within {CONTROL_TOLERANCE:.0%}: the Mac was not at rest, do not trust the times"
