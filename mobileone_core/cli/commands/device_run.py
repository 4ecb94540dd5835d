"""The command `mobileone latency run`: everything is measured before anything is recorded."""

import json
from dataclasses import asdict

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE, Protocol
from mobileone_core.cli.commands.device_import import read_models, summary_line
from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.latency import Run
from mobileone_core.errors import require, require_integer
from mobileone_core.latency.device import model_by_hash

DIFFERENCE = 0.05  # of the largest output: maps in half precision on a Neural Engine differ by less
COARSE = (
    "protocol remote-device: each prediction copies four files and the chip idles in between; good for which unit runs "
    "an operator and for coarse numbers, not for the paper's latency"
)


def measure_on_device(options: Run) -> int:
    """Measure, record, and print what was recorded. Raises InputError."""
    require_integer("n", options.n)
    require(options.timeout > 0, "timeout", options.timeout, "seconds above 0")
    protocol = Protocol(rounds=options.rounds)
    from mobileone_core.coreml.iphone import Measured, Phone, measure_on_iphone
    from mobileone_core.coreml.mac import difference_from_evaluator, measure_on_mac
    from mobileone_core.coreml.xcode import require_macos

    require_macos("an iPhone" if options.device == "iphone" else "latency on a Mac")
    models = read_models((), options.model, options.title)
    results: list[Measured]
    differences: list[float | None]
    if options.device == "iphone":
        work = options.work or options.storage.workspace.runs / "modelrunner"
        results = measure_on_iphone(
            options.model, options.units, options.n, Phone(options.team, work, options.name, options.timeout)
        )
        differences = [None] * len(results)
    else:
        from mobileone_core.study.environment import processor

        pairs = [(package, units) for package in options.model for units in options.units]
        differences = [difference_from_evaluator(package, units) for package, units in pairs]
        for (package, units), value in zip(pairs, differences, strict=True):
            print(_difference_text(f"{package.name}, {units}", value))
        results = measure_on_mac(options.model, options.units, protocol, f"Mac, {processor()}", lambda _: None)
    from mobileone_core.study.record.devices import MeasurementSource, record_devices

    for item, difference in zip(results, differences, strict=True):
        model = model_by_hash(models, item.measurement.model_hash)
        operators = json.dumps([asdict(operator) for operator in item.operators], indent=2) + "\n"
        raw = json.dumps(asdict(item.measurement), indent=2, sort_keys=True) + "\n"
        texts = {"placement.json": operators} if item.operators else {}
        texts |= {} if item.control is None else {"control.json": json.dumps({"ratio": item.control}) + "\n"}
        if difference is not None:
            texts["prediction.json"] = json.dumps({"difference_from_evaluator": difference}) + "\n"
        source = MeasurementSource("measured", name="measurement.json", text=raw, texts=texts)
        (run_id,) = record_devices(options.storage.workspace, [(model, item.measurement)], source, again=True)
        print(summary_line(model, item.measurement))
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
    is_at_rest = abs(ratio - 1) <= CONTROL_TOLERANCE
    within = "within" if is_at_rest else "NOT within"
    warning = "" if is_at_rest else ": the Mac was not at rest, do not trust the times"
    return f"control: the first model timed twice, ratio {ratio:.3f}, {within} {CONTROL_TOLERANCE:.0%}{warning}"
