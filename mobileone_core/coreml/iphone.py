"""Latency and operator placement on a connected iPhone, through coremltools' remote device.

Each prediction copies four files, and the chip idles in between: the numbers are coarse, not the paper's latency.
"""

import asyncio
import contextlib
import datetime
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mobileone_core.coreml import xcode
from mobileone_core.coreml.package import package_hash
from mobileone_core.errors import InputError
from mobileone_core.latency.device import DeviceMeasurement, sample_statistics

PROTOCOL = "remote-device"


@dataclass(frozen=True)
class Placed:
    """An operator, its first output, and the compute unit that runs it; empty if the plan does not say."""

    operator: str
    output: str
    unit: str

    @classmethod
    def of(cls, operator: str, outputs: Iterable[Any], usage: Any) -> "Placed":
        """Read coremltools' outputs and usage: NeuralEngine, GPU or CPU of MLNeuralEngineComputeDevice and so on."""
        device = type(usage.preferred_compute_device).__name__ if usage else ""
        unit = device.removeprefix("ML").removesuffix("ComputeDevice")
        return cls(operator, next((item.name for item in outputs), ""), unit)


@dataclass(frozen=True)
class Measured:
    """A measurement and the placement of its operators; control is a model's latency relative to itself, if timed."""

    measurement: DeviceMeasurement
    operators: tuple[Placed, ...]
    control: float | None = None


@dataclass(frozen=True)
class Phone:
    """The iPhone to use: signing team, directory of the built app, name (empty for any), and a timeout in seconds."""

    team: str
    work: Path
    name: str = ""
    timeout: float = 900.0


def measure_on_iphone(packages: Sequence[Path], units: Sequence[str], n: int, phone: Phone) -> list[Measured]:
    """Time n predictions of each package on the iPhone. Raises InputError that says what is missing and its remedy."""
    macos = xcode.require_macos("an iPhone")
    xcode.require_xcode()
    xcode.require_team(phone.team)
    phone.work.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_measure(itertools.product(packages, units), n, phone, macos))


def build_benchmarker(package: Path, units: str, device: Any) -> Any:
    """Build coremltools' benchmarker of a package on a device."""
    import coremltools
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    unit = coremltools.ComputeUnit[units.upper()]
    model = coremltools.models.MLModel(str(package), compute_units=unit, skip_model_load=True)
    return MLModelBenchmarker(model, device)


async def _measure(pairs: Iterable[tuple[Path, str]], n: int, phone: Phone, macos: tuple[int, ...]) -> list[Measured]:
    device = await _prepare(phone)
    can_plan = xcode.version(device.os_version) >= xcode.PLAN_IOS and macos >= xcode.PLAN_MACOS
    results = []
    try:
        for package, unit in pairs:
            step = _benchmark(build_benchmarker(package, unit, device), n, can_plan=can_plan)
            load, times, operators = await _in_time(step, phone.timeout, f"{package.name}, {unit}", _lost)
            facts = {
                "device": xcode.product_name(device.identifier),
                "os": f"iOS {device.os_version} ({device.os_build_number})",
                "protocol": PROTOCOL,
                "app": "coremltools modelrunner",
                "load_ms": load,
            }
            results.append(Measured(measurement_of(package, unit, times, operators, facts), operators))
    finally:
        _end_app(device)
    return results


async def _prepare(phone: Phone) -> Any:
    """Connect to the iPhone and install the benchmark app."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device

    try:
        device = xcode.find_iphone(Device.get_devices(), phone.name)
    except InputError:
        raise
    except Exception as error:  # coremltools' exception classes are private
        raise InputError(f"devicectl: {_message(error)}; unplug the iPhone, plug it in again and unlock it") from error
    step = device.prepare_for_model_debugging(AppSigningCredentials(phone.team), phone.work.resolve())
    return await _in_time(step, phone.timeout, "building and installing the app", _not_prepared)


async def _benchmark(benchmarker: Any, n: int, *, can_plan: bool) -> tuple[float, list[float], tuple[Placed, ...]]:
    """Return load time and times of all predictions in milliseconds, and operators if can_plan."""
    load = await benchmarker.benchmark_load(iterations=1)
    times = await benchmarker.benchmark_predict(iterations=n, warmup=True)
    infos = await benchmarker.benchmark_operation_execution(iterations=1) if can_plan else []
    operators = [Placed.of(info.spec.type, info.spec.outputs, info.compute_device_usage) for info in infos]
    return load.samples[0], list(times.samples), tuple(operators)


def measurement_of(
    package: Path, unit: str, times: list[float], operators: Sequence[Placed], facts: Mapping[str, Any]
) -> DeviceMeasurement:
    """Build the measurement of a package from its times in milliseconds; facts are further fields, e.g. device, os."""
    return DeviceMeasurement(
        model_hash=package_hash(package),
        compute_units=unit,
        n=len(times),
        statistics=sample_statistics(times),
        date=datetime.date.today().isoformat(),
        samples=times,
        placement=dict(Counter(item.unit for item in operators if item.unit)),
        **facts,
    )


async def _in_time(step: Awaitable[Any], seconds: float, what: str, refusal: Callable[[Exception], InputError]) -> Any:
    """Await a step. Raises InputError if it fails or takes more than a number of seconds."""
    before = psutil.Process().children(recursive=True)
    try:
        return await asyncio.wait_for(step, seconds)
    except TimeoutError as error:
        # or a thread would wait for them, and the program for the thread
        _kill(set(psutil.Process().children(recursive=True)) - set(before))
        cure = "unlock the iPhone, keep it awake, answer what Xcode or the keychain asks, or give a longer --timeout"
        raise InputError(f"timeout: {what} took more than {seconds:g} s; {cure}") from error
    except Exception as error:
        raise refusal(error) from error


def _not_prepared(error: BaseException) -> InputError:
    """Explain a failed installation; xcodebuild's output is in the cause of coremltools' error."""
    if type(error).__qualname__ == "_AppBuilder.Error":
        output = getattr(error.__context__, "stdout", None) or b""
        return xcode.why_not_built(output.decode(errors="replace"))
    cure = "unlock the iPhone, free some space on it, remove an older modelrunner app, and try again"
    return InputError(f"install: {_message(error)}; {cure}")


def _lost(error: BaseException) -> InputError:
    cure = "keep the iPhone plugged in, unlocked and awake, and run the command again; nothing was recorded"
    return InputError(f"iphone: connection lost, or the app ended: {_message(error)}; {cure}")


def _message(error: BaseException) -> str:
    message = getattr(error, "message", None) or str(error)
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return " ".join(text.split())[:300] or type(error).__name__


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _end_app(device: Any) -> None:
    """Kill the app's console, which coremltools leaves running with open pipes."""
    console = device.session._process
    with contextlib.suppress(psutil.NoSuchProcess):
        _kill(psutil.Process(console.pid).children(recursive=True))
    with console:  # waits, and closes the pipes
        console.kill()
