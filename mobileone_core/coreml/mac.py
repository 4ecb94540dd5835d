"""Core ML on a Mac: predictions, the compute unit of each operator, and interleaved latencies."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileone_core.benchmark.interleave import TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.coreml.iphone import Measured, Placed, measurement_of
from mobileone_core.coreml.xcode import PLAN_MACOS, require_macos

PROTOCOL = "mac-interleaved"
CONTROL = "control"  # the first call a second time


def predict(package: Path, inputs: Mapping[str, Any], units: str = "all") -> dict[str, NDArray[Any]]:
    """Return Core ML's outputs by name, on compute units such as cpu_only. Raises InputError except on macOS."""
    require_macos("prediction by Core ML")
    return dict(_load(package, units).predict(dict(inputs)))


def relative_difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference relative to the largest expected magnitude, in float64."""
    reference = np.asarray(expected, dtype=np.float64)
    return float(np.abs(np.asarray(actual, dtype=np.float64) - reference).max() / np.abs(reference).max())


def difference_from_evaluator(package: Path, units: str = "all") -> float | None:
    """Compare Core ML with evaluate.py on one random input; None for a package that takes images.

    Returns the largest relative difference of all outputs. Raises InputError on other systems than macOS.
    """
    import torch

    from mobileone_core.coreml.evaluate import evaluate
    from mobileone_core.coreml.program import read_program, read_spec

    (source,) = read_spec(package).description.input
    if source.type.WhichOneof("Type") != "multiArrayType":
        return None
    shape = tuple(source.type.multiArrayType.shape)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    expected = evaluate(read_program(package), {source.name: torch.from_numpy(values)})
    actual = predict(package, {source.name: values}, units)
    return max(relative_difference(actual[name], np.asarray(value)) for name, value in expected.items())


def compute_plan(package: Path, units: str = "all") -> tuple[Placed, ...]:
    """Return the operators of a package and the compute unit of each; empty before macOS 14.4.

    Raises InputError on other systems than macOS.
    """
    if require_macos("a compute plan") < PLAN_MACOS:
        return ()
    from coremltools.models.compute_plan import MLComputePlan

    model = _load(package, units)
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), model.compute_unit)
    operations = plan.model_structure.program.functions["main"].block.operations
    usage = plan.get_compute_device_usage_for_mlprogram_operation
    timed = [item for item in operations if item.operator_name != "const"]
    return tuple(Placed.of(item.operator_name, item.outputs, usage(item)) for item in timed)


def measure_on_mac(
    packages: Sequence[Path], units: Sequence[str], protocol: Protocol, device: str, between: Callable[[int], object]
) -> list[Measured]:
    """Time all packages on all compute units, interleaved; device is the Mac's name.

    Raises InputError on other systems than macOS.
    """
    macos = require_macos("latency on a Mac")
    from coremltools.models.ml_program.experimental.perf_utils import _gen_random_inputs

    calls = {}
    for package, unit in itertools.product(packages, units):
        model = _load(package, unit)
        inputs = _gen_random_inputs(model.get_spec().description)
        calls[f"{package} {unit}"] = TimedCall(functools.partial(model.predict, inputs))
    first = next(iter(calls))
    samples = interleave({**calls, CONTROL: calls[first]}, protocol, between)
    control = samples.ratio(CONTROL, first).value
    facts = {"device": device, "os": f"macOS {'.'.join(map(str, macos))}", "protocol": PROTOCOL}
    results = []
    for package, unit in itertools.product(packages, units):
        times = samples.times[f"{package} {unit}"].ravel().tolist()
        operators = compute_plan(package, unit)
        results.append(Measured(measurement_of(package, unit, times, operators, facts), operators, control))
    return results


def _load(package: Path, units: str) -> Any:
    import coremltools

    return coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit[units.upper()])
