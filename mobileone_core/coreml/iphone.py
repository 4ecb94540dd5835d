"""Latency and placement of operators on a connected iPhone, through coremltools' remote device.

Each prediction copies four files, so that the chip idles in between: coarse numbers, not the paper's latency.
"""

import asyncio
import contextlib
import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mobileone_core.coreml.package import package_hash
from mobileone_core.coreml.xcode import (
    LEAST_PLAN,
    PLAN_MACOS,
    find_iphone,
    product_name,
    require_macos,
    require_team,
    require_xcode,
    version,
    why_not_built,
)
from mobileone_core.errors import InputError
from mobileone_core.latency.device import DeviceMeasurement, sample_statistics

PROTOCOL = "remote-device"
Benchmarker = Callable[[Path, str, Any], Any]  # package, compute units, device: what has MLModelBenchmarker's methods


@dataclass(frozen=True)
class Placed:
    """An operator, and the unit that runs it; empty where the plan does not say."""

    operator: str
    output: str
    unit: str


@dataclass(frozen=True)
class Measured:
    """A measurement, and where each operator runs. control: ratio of a call to its own twin, where one was timed."""

    measurement: DeviceMeasurement
    operators: tuple[Placed, ...]
    control: float | None = None


@dataclass(frozen=True)
class Phone:
    """How the iPhone is found, and how long things may take in seconds. work keeps the app that was built."""

    team: str
    work: Path
    name: str = ""
    timeout: float = 900.0


def measure_on_iphone(
    packages: Sequence[Path], units: Sequence[str], n: int, phone: Phone, benchmarker: Benchmarker | None = None
) -> list[Measured]:
    """Measure packages on the iPhone, n predictions each; InputError, with the cure, for what is in the way."""
    macos = require_macos("an iPhone")
    require_xcode()
    require_team(phone.team)
    phone.work.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_measure(packages, units, n, phone, benchmarker or benchmarker_of, macos))


def benchmarker_of(package: Path, units: str, device: Any) -> Any:  # noqa: ANN401
    """coremltools' benchmarker of a package on a device."""
    import coremltools
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    unit = coremltools.ComputeUnit[units.upper()]
    return MLModelBenchmarker(
        coremltools.models.MLModel(str(package), compute_units=unit, skip_model_load=True), device
    )


async def _measure(  # noqa: PLR0913, PLR0917
    packages: Sequence[Path], units: Sequence[str], n: int, phone: Phone, make: Benchmarker, macos: tuple[int, ...]
) -> list[Measured]:
    device = await _prepared(phone)
    can_plan = version(device.os_version) >= LEAST_PLAN and macos >= PLAN_MACOS
    found = []
    try:
        for package in packages:
            for unit in units:
                step = _benchmarked(make(package, unit, device), n, can_plan=can_plan)
                load, times, operators = await _in_time(step, phone.timeout, f"{package.name}, {unit}", _gone)
                facts = {**_place(device), "load_ms": load}
                found.append(Measured(measurement_of(package, unit, times, operators, facts), operators))
    finally:
        _end_app(device)
    return found


def _place(device: Any) -> dict[str, str]:  # noqa: ANN401
    system = f"iOS {device.os_version} ({device.os_build_number})"
    return {
        "device": product_name(device.identifier),
        "os": system,
        "protocol": PROTOCOL,
        "app": "coremltools modelrunner",
    }


async def _prepared(phone: Phone) -> Any:  # noqa: ANN401
    """The device with the app on it."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device

    try:
        device = find_iphone(Device.get_devices(), phone.name)
    except InputError:
        raise
    except Exception as error:  # coremltools' own kinds are private
        raise InputError(f"devicectl: {_words(error)}; unplug the iPhone, plug it in again and unlock it") from error
    work = phone.work.resolve()
    step = device.prepare_for_model_debugging(AppSigningCredentials(phone.team), work)
    return await _in_time(step, phone.timeout, "building and installing the app", _not_prepared)


async def _benchmarked(benchmarker: Any, n: int, *, can_plan: bool) -> tuple[float, list[float], tuple[Placed, ...]]:  # noqa: ANN401
    """Time to load and of every prediction in milliseconds; operators where compute plans are to be had."""
    load = await benchmarker.benchmark_load(iterations=1)
    times = await benchmarker.benchmark_predict(iterations=n, warmup=True)
    infos = await benchmarker.benchmark_operation_execution(iterations=1) if can_plan else []
    return load.samples[0], list(times.samples), tuple(map(_placed, infos))


def _placed(info: Any) -> Placed:  # noqa: ANN401
    usage = info.compute_device_usage
    output = next((item.name for item in info.spec.outputs), "")
    return Placed(info.spec.type, output, unit_name(usage.preferred_compute_device) if usage else "")


def unit_name(device: object) -> str:
    """NeuralEngine, GPU or CPU, of coremltools' compute devices: MLNeuralEngineComputeDevice and so on."""
    return type(device).__name__.removeprefix("ML").removesuffix("ComputeDevice")


def counted(operators: Sequence[Placed]) -> dict[str, int]:
    """Operators by unit."""
    return dict(Counter(item.unit for item in operators if item.unit))


def measurement_of(
    package: Path, unit: str, times: list[float], operators: Sequence[Placed], facts: Mapping[str, Any]
) -> DeviceMeasurement:
    """A package's predictions in milliseconds, of today; facts are further fields by name: device, os, protocol."""
    return DeviceMeasurement(
        model_hash=package_hash(package),
        compute_units=unit,
        n=len(times),
        statistics=sample_statistics(times),
        date=datetime.date.today().isoformat(),
        samples=times,
        placement=counted(operators),
        **facts,
    )


async def _in_time(
    step: Awaitable[Any], seconds: float, what: str, refusal: Callable[[BaseException], InputError]
) -> Any:  # noqa: ANN401
    """A step's result; InputError where it fails or takes too long."""
    try:
        return await asyncio.wait_for(step, seconds)
    except TimeoutError as error:
        _end_children()  # a thread waits for them, and the program for the thread
        cure = "unlock the iPhone, keep it awake, answer what Xcode or the keychain asks, or give a longer --timeout"
        raise InputError(f"timeout: {what} took more than {seconds:g} s; {cure}") from error
    except InputError:
        raise
    except Exception as error:
        raise refusal(error) from error


def _not_prepared(error: BaseException) -> InputError:
    """xcodebuild's words lie in the cause: coremltools' own error has lost them."""
    if type(error).__qualname__ == "_AppBuilder.Error":
        output = getattr(error.__context__, "stdout", None) or b""
        return why_not_built(output.decode(errors="replace"))
    cure = "unlock the iPhone, free some space on it, remove an older modelrunner app, and try again"
    return InputError(f"install: {_words(error)}; {cure}")


def _gone(error: BaseException) -> InputError:
    cure = "keep the iPhone plugged in, unlocked and awake, and give the command again; nothing of it was recorded"
    return InputError(f"iphone: gone in the middle, or the app on it ended: {_words(error)}; {cure}")


def _words(error: BaseException) -> str:
    message = getattr(error, "message", None) or str(error)
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return " ".join(text.split())[:300] or type(error).__name__


def _end_children() -> None:
    """End the tools that this process started."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _end_app(device: Any) -> None:  # noqa: ANN401
    """End the console of the app, which coremltools leaves running with its pipes open."""
    console = device.session._process
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(console.pid).children(recursive=True):
            child.kill()
    console.kill()
    with console:  # waits, and closes the pipes
        pass
