"""One measurement on an iPhone or this Mac, from its options to its runs: recorded when all is measured."""

import json
from dataclasses import asdict

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE, Protocol
from mobileone_core.cli.commands.device_import import known_models, told
from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.latency import Run
from mobileone_core.errors import require
from mobileone_core.latency.device import model_by_hash

DIFFERENCE = 0.05  # of the largest output: maps in half precision on a Neural Engine differ by less
COARSE = (
    "protocol remote-device: each prediction copies four files and the chip idles in between; good for which unit runs "
    "an operator and for coarse numbers, not for the paper's latency"
)


def run(asked: Run) -> int:
    """Measure, record, tell; InputError for what is in the way."""
    require(asked.n >= 1, "n", asked.n, "an integer of 1 or more")
    require(asked.timeout > 0, "timeout", asked.timeout, "seconds above 0")
    protocol = Protocol(rounds=asked.rounds)
    from mobileone_core.coreml.iphone import Measured, Phone, measure_on_iphone
    from mobileone_core.coreml.mac import difference_from_evaluator, measure_on_mac
    from mobileone_core.coreml.xcode import require_macos

    require_macos("an iPhone" if asked.device == "iphone" else "latency on a Mac")
    models = known_models((), asked.model, asked.title)
    found: list[Measured]
    differences: list[float | None]
    if asked.device == "iphone":
        work = asked.work or asked.places.workspace.runs / "modelrunner"
        found = measure_on_iphone(asked.model, asked.units, asked.n, Phone(asked.team, work, asked.name, asked.timeout))
        differences = [None] * len(found)
    else:
        from mobileone_core.study.environment import processor

        pairs = [(package, units) for package in asked.model for units in asked.units]
        differences = [difference_from_evaluator(package, units) for package, units in pairs]
        for (package, units), value in zip(pairs, differences, strict=True):
            print(_difference_words(f"{package.name}, {units}", value))
        found = measure_on_mac(asked.model, asked.units, protocol, f"Mac, {processor()}", lambda _: None)
    from mobileone_core.study.record.devices import Source, record_devices

    for item, difference in zip(found, differences, strict=True):
        model = model_by_hash(models, item.measurement.model_hash)
        operators = json.dumps([asdict(place) for place in item.operators], indent=2) + "\n"
        raw = json.dumps(asdict(item.measurement), indent=2, sort_keys=True) + "\n"
        texts = {"placement.json": operators} if item.operators else {}
        texts |= {} if item.control is None else {"control.json": json.dumps({"ratio": item.control}) + "\n"}
        if difference is not None:
            texts["prediction.json"] = json.dumps({"difference_from_evaluator": difference}) + "\n"
        source = Source("measured", name="measurement.json", text=raw, texts=texts)
        (run_id,) = record_devices(asked.places.workspace, [(model, item.measurement)], source, again=True)
        print(told(model, item.measurement))
        placed = ", ".join(f"{unit} {count}" for unit, count in sorted(item.measurement.placement.items()))
        print(f"  operators by unit: {placed or 'no compute plan (iOS 17.4 and macOS 14.4 have them)'}; run {run_id}")
    control = found[0].control
    print(COARSE if control is None else _control_words(control))
    print("next: `mobileone ui` shows the runs of the experiment device_latency, `mobileone report` the tables")
    return COMPLETE


def _difference_words(name: str, value: float | None) -> str:
    if value is None:
        return f"{name}: predictions are not compared, it takes images"
    words = "" if value <= DIFFERENCE else ": NOT the same network, do not ship it"
    return f"{name}: Core ML's outputs differ from the verified evaluator's by {value:.1e} of the largest{words}"


def _control_words(ratio: float) -> str:
    is_at_rest = abs(ratio - 1) <= CONTROL_TOLERANCE
    words = "within" if is_at_rest else "NOT within"
    more = "" if is_at_rest else ": the Mac was not at rest, do not trust the times"
    return f"control: the first model timed twice, ratio {ratio:.3f}, {words} {CONTROL_TOLERANCE:.0%}{more}"
