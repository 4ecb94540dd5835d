"""Core ML's own execution on a Mac: predictions, which unit runs each operator, and latency side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileone_core.benchmark.interleave import interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.coreml.iphone import Measured, Placed, measurement_of, unit_name
from mobileone_core.coreml.xcode import PLAN_MACOS, require_macos

PROTOCOL = "mac-interleaved"
CONTROL = "control"  # the first call once more

Inputs = Mapping[str, Any]


def predict(package: Path, inputs: Inputs, units: str = "all") -> dict[str, NDArray[Any]]:
    """What Core ML gives for these inputs; InputError where this is no Mac."""
    require_macos("prediction by Core ML")
    outputs: dict[str, NDArray[Any]] = _loaded(package, units).predict(dict(inputs))
    return outputs


def relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference over the largest expected magnitude, in float64: torch's output or our evaluator's."""
    right = np.asarray(expected, dtype=np.float64)
    return float(np.abs(np.asarray(found, dtype=np.float64) - right).max() / np.abs(right).max())


def difference_from_evaluator(package: Path, units: str = "all") -> float | None:
    """How far Core ML's outputs are from our evaluator's on one random input; None for a package that takes images.

    Raises InputError where this is no Mac.
    """
    import torch

    from mobileone_core.coreml.evaluate import evaluate
    from mobileone_core.coreml.program import read_program, read_spec

    (taken,) = read_spec(package).description.input
    if taken.type.WhichOneof("Type") != "multiArrayType":
        return None
    shape = tuple(taken.type.multiArrayType.shape)
    given = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    expected = evaluate(read_program(package), {taken.name: torch.from_numpy(given)})
    found = predict(package, {taken.name: given}, units)
    return max(relative_difference(found[name], np.asarray(value)) for name, value in expected.items())


def compute_plan(package: Path, units: str = "all") -> tuple[Placed, ...]:
    """The operators of a package with the unit that runs each; nothing before macOS 14.4, which has no plans.

    Raises InputError where this is no Mac.
    """
    if require_macos("a compute plan") < PLAN_MACOS:
        return ()
    from coremltools.models.compute_plan import MLComputePlan

    model = _loaded(package, units)
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), model.compute_unit)
    operations = plan.model_structure.program.functions["main"].block.operations
    return tuple(_placed(plan, item) for item in operations if item.operator_name != "const")


def measure_on_mac(
    packages: Sequence[Path], units: Sequence[str], protocol: Protocol, device: str, between: Callable[[int], object]
) -> list[Measured]:
    """Time all packages with all compute units side by side; device names the Mac.

    Raises InputError where this is no Mac.
    """
    macos = require_macos("latency on a Mac")
    calls = dict(_calls(packages, units))
    labelled = {" ".join(map(str, key)): call for key, call in calls.items()}
    first = next(iter(labelled))
    samples = interleave({**labelled, CONTROL: labelled[first]}, protocol, between)
    control = samples.ratio(CONTROL, first).value
    place = {"device": device, "os": f"macOS {'.'.join(map(str, macos))}", "protocol": PROTOCOL}
    found = []
    for package, unit in calls:
        times = [time for burst in samples.lists(f"{package} {unit}") for time in burst]
        operators = compute_plan(package, unit)
        found.append(Measured(measurement_of(package, unit, times, operators, place), operators, control))
    return found


def _calls(packages: Sequence[Path], units: Sequence[str]) -> Iterator[tuple[tuple[Path, str], Callable[[], object]]]:
    from coremltools.models.ml_program.experimental.perf_utils import _gen_random_inputs

    for package in packages:
        for unit in units:
            model = _loaded(package, unit)
            inputs = _gen_random_inputs(model.get_spec().description)
            yield (package, unit), lambda model=model, inputs=inputs: model.predict(inputs)  # type: ignore[misc]


def _loaded(package: Path, units: str) -> Any:  # noqa: ANN401
    import coremltools

    return coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit[units.upper()])


def _placed(plan: Any, operation: Any) -> Placed:  # noqa: ANN401
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    output = next((item.name for item in operation.outputs), "")
    return Placed(operation.operator_name, output, unit_name(usage.preferred_compute_device) if usage else "")
