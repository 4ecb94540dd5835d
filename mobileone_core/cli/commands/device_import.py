"""One import from its options to its runs: everything is checked before anything is recorded."""

import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.latency import Import
from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import DeviceMeasurement, ExportedModel, model_by_hash, to_milliseconds
from mobileone_core.latency.device_files import FORMAT, find_manifest, read_manifest, read_measurements
from mobileone_core.latency.xcode_report import XcodeReport, confirmed_median, read_report
from mobileone_core.study.workspace import Workspace

if TYPE_CHECKING:
    from mobileone_core.study.record.devices import Source

REPORT_SUFFIX = ".mlperf"
SAY = "type it with --median-ms"


def run(asked: Import) -> int:
    """Import, record, tell; InputError for what cannot be used."""
    if asked.formats:
        print(FORMAT)
        return COMPLETE
    require(
        asked.modelbench != bool(asked.files), "file", list(map(str, asked.files)), "files, or --modelbench, not both"
    )
    models = known_models(asked.models.manifest, asked.models.package, asked.models.title)
    if asked.modelbench:
        items: list[Sequence[DeviceMeasurement]] = [[_modelbench(asked, models)]]
    else:
        items = [_measured(asked, path, models) for path in asked.files]
    named = [
        (source, [(model_by_hash(models, item.model_hash), item) for item in found])
        for source, found in _sources(asked, items)
    ]
    _require_new(asked, named)
    for source, known in named:
        _record(asked.places.workspace, source, known, again=asked.again)
    return COMPLETE


def known_models(manifests: Iterable[Path], packages: Iterable[Path], title: str) -> list[ExportedModel]:
    """The models of manifests and packages; InputError where a manifest does not fit its package."""
    from mobileone_core.coreml.package import package_hash

    found = [read_manifest(path, title) for path in manifests]
    for package in packages:
        model_hash = package_hash(package)
        manifest = find_manifest(package)
        if manifest is None:
            require(bool(title), "title", title, f"a title for {package.name}, which has no manifest")
            found.append(ExportedModel(title, model_hash))
            continue
        model = read_manifest(manifest, title)
        fits = model.model_hash == model_hash
        require(fits, "package", package.name, f"the one of its manifest, {model.model_hash[:12]}; export it anew")
        found.append(model)
    return found


def _sources(
    asked: Import, items: Sequence[Sequence[DeviceMeasurement]]
) -> list[tuple["Source", Sequence[DeviceMeasurement]]]:
    """What is kept of each file, or of the numbers that were typed in."""
    from mobileone_core.study.record.devices import Source

    if not asked.modelbench:
        return [(Source("imported", path), found) for path, found in zip(asked.files, items, strict=True)]
    known = {name: value for name, value in vars(items[0][0]).items() if value not in ("", (), None, {})}
    text = json.dumps({"typed": known}, indent=2, sort_keys=True) + "\n"
    return [(Source("imported", name="modelbench.json", text=text), items[0])]


def _given(asked: Import, models: Sequence[ExportedModel]) -> dict[str, Any]:
    """What the options say of a measurement; the hash where one model alone is named."""
    given = {"device": asked.device, "os": asked.os, "compute_units": asked.units or "", "protocol": asked.protocol}
    given |= {"date": asked.date, "model_hash": models[0].model_hash if len(models) == 1 else ""}
    return {name: text for name, text in given.items() if text} | ({} if asked.n is None else {"n": asked.n})


def _by_hand(asked: Import, models: Sequence[ExportedModel], protocol: str) -> dict[str, Any]:
    """The fields of numbers that no file of ours holds; InputError for what is missing."""
    require(len(models) == 1, "manifest", len(models), "one model, whose numbers these are: --manifest or --package")
    require(asked.protocol in ("", protocol), "protocol", asked.protocol, protocol)
    given = {"date": datetime.date.today().isoformat(), **_given(asked, models), "protocol": protocol}
    for name, option in (("device", "--device"), ("os", "--os"), ("compute_units", "--units")):
        require(name in given, name, given.get(name, ""), f"it must be given: {option}")
    return given


def _modelbench(asked: Import, models: Sequence[ExportedModel]) -> DeviceMeasurement:
    typed = {name: getattr(asked, name) for name in ("low", "average") if getattr(asked, name) is not None}
    for name in ("rounds", "calls"):
        require(getattr(asked, name) >= 1, name, getattr(asked, name), "an integer of 1 or more")
    fields = {"n": asked.rounds * asked.calls, **_by_hand(asked, models, "modelbench")}
    times = {name: to_milliseconds(value, "ms", name) for name, value in typed.items()}
    return DeviceMeasurement(**fields, statistics=times, app=f"ModelBench, {asked.rounds} rounds of {asked.calls}")


def _measured(asked: Import, path: Path, models: Sequence[ExportedModel]) -> Sequence[DeviceMeasurement]:
    if path.suffix.lower() != REPORT_SUFFIX:
        return read_measurements(path, _given(asked, models))
    report = read_report(path)
    fields = _by_hand(asked, models, "xcode-report")
    require("n" in fields, "n", None, "how many predictions the report made: --n")
    print("\n".join([f"{path.name}:", *report.lines()]))
    median = _median(asked, report)
    return [DeviceMeasurement(**fields, statistics={"median": median}, app="Xcode", placement=report.placement)]


def _median(asked: Import, report: XcodeReport) -> float:
    """As typed, or as found and confirmed: InputError where nobody is there to confirm it."""
    if asked.median_ms is not None:
        return to_milliseconds(asked.median_ms, "ms", "median_ms")
    found = confirmed_median(report, SAY, asked.unit or "")
    if not asked.yes:
        fits = sys.stdin.isatty()
        require(fits, "median", f"{found:g} ms", f"confirmed by a person on a terminal, with --yes, or {SAY}")
        answer = input(f"prediction median {found:g} ms: is this what Xcode shows? [y/N] ")
        require(answer.strip().lower() in ("y", "yes"), "median", f"{found:g} ms", f"confirmed; if it is not, {SAY}")
    return found


def _require_new(asked: Import, named: Sequence[tuple["Source", Sequence[object]]]) -> None:
    """Refuse files that are whole in the record already, before any is written."""
    from mobileone_core.study.record.devices import recorded

    hashes = [source.sha256 for source, _ in named]
    require(len(set(hashes)) == len(hashes), "file", [str(path) for path in asked.files], "each once")
    for source, items in named:
        there = {} if asked.again else recorded(asked.places.workspace.tracking, source.sha256)
        if len(there) >= len(items):
            name, runs = source.path.name if source.path else source.name, ", ".join(there.values())
            raise InputError(f"file: {name} is in the record already, as run {runs}; --again records it once more")


def _record(
    workspace: Workspace,
    source: "Source",
    items: Sequence[tuple[ExportedModel, DeviceMeasurement]],
    *,
    again: bool,
) -> None:
    from mobileone_core.study.record.devices import record_devices

    run_ids = record_devices(workspace, items, source, again=again)
    for model, item in items:
        print(told(model, item))
    print(f"recorded {len(run_ids)} of {len(items)} as run {', '.join(run_ids)} of the experiment device_latency")
    print("next: `mobileone ui` shows the runs, `mobileone report` the tables")


def told(model: ExportedModel, item: DeviceMeasurement) -> str:
    """A measurement in a line."""
    times = ", ".join(f"{name} {value:#.4g} ms" for name, value in item.statistics.items())
    where = f"{item.device}, {item.os}, {item.compute_units}"
    return f"{model.model} ({model.model_hash[:12]}) on {where}, protocol {item.protocol}: {times} (n = {item.n})"
