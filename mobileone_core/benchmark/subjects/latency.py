"""Latency of an inference: each entry is built, opened in its runtime and checked against torch."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, inference_mode

from mobileone_core.benchmark.interleave import TimedCall
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import Entry
from mobileone_core.benchmark.subjects import Prepared, Subject, Timed, copy_suffixes
from mobileone_core.latency import runtimes
from mobileone_core.latency.cell import LatencyCell, Runtime
from mobileone_core.latency.networks import build_forms, build_images, count_cost, folding_metrics
from mobileone_core.latency.runtimes import Opener, Session, SessionSource, UnmeasuredError

LATENCY, PROCESS = "latency", "process"  # names of samples
# Relative distance of outputs, as vectors. Half precision adds its rounding in every layer of an untrained network.
TOLERANCES = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.25}


class LatencySubject(Subject[LatencyCell]):
    """Latency of every entry's network in its runtime.

    Metrics: params, macs (of the timed form, per image); unfolded/params and unfolded/difference (folding_metrics);
    latency/median_ms with _low and _high over rounds, min, p90, mean and process_ms (the process's time per call, all
    threads, median over rounds); latency/ratio to the reference, round by round, with _low and _high; low_ms and
    average_ms where the protocol trims; throughput/images_per_second with _low and _high for batches above 1. Samples:
    latency and process (one per round), in milliseconds. An entry is not timed if no library has its network, folding
    changed its outputs, its runtime cannot take it, or its output differs from torch's in float32 by more than
    TOLERANCES.
    """

    def prepare(self, entry: Entry[LatencyCell]) -> Sequence[Prepared[LatencyCell]]:
        """Build, count, open and check an entry's network. Raises InputError if its runtime is not installed."""
        runtime = entry.cell.runtime
        runtimes.require_runtime(runtime)
        requested = {name: str(value) for name, value in vars(runtime).items() if name != "name"}
        item = Prepared(entry, tags={"runtime": runtime.name, **requested})
        folder = self.folder / str(self.spec.entries.index(entry))
        folder.mkdir()
        try:
            (unfolded, network), images = build_forms(entry.cell), build_images(entry.cell)
            params, macs = count_cost(network, images)
            item.metrics = {"params": float(params), "macs": float(macs)}
            item.metrics |= folding_metrics(unfolded, network, images)
            with inference_mode():
                expected = network(images)
            opener = runtimes.prepare(SessionSource(network, images, runtime, folder))
            sessions = {LATENCY + suffix: opener() for suffix in copy_suffixes(entry)}
            for session in sessions.values():
                _check(session.output(), expected, runtime)
            item.calls = {name: _timed_call(sessions, name, opener) for name in sessions}
            item.tags = {**item.tags, **sessions[LATENCY].tags}  # of what really runs
        except UnmeasuredError as error:
            item.unmeasured = str(error)
        except Exception as error:
            if not item.metrics:  # not the runtime's fault
                raise
            first_line = str(error).strip().partition("\n")[0].strip() or "no message"
            item.unmeasured = f"{runtime.name}: {type(error).__name__}: {first_line}"
        return [item]

    def metrics(self, item: Prepared[LatencyCell], others: Timed[LatencyCell], samples: Samples) -> dict[str, float]:
        """The times of an entry, and their ratio to those of its reference."""
        label, trim = item.label(LATENCY), self.spec.protocol.trim
        metrics = samples.time_metrics(label, "latency/median")
        metrics |= {f"latency/{end}_ms": metrics.pop(f"latency/median_{end}_ms") for end in ("min", "p90")}
        metrics["latency/mean_ms"] = float(samples.times[label].mean())
        metrics["latency/process_ms"] = float(np.median(samples.process[label]))
        if (batch := item.entry.cell.batch_size) > 1:
            for end, time in {"": "", "_low": "_high", "_high": "_low"}.items():
                metrics[f"throughput/images_per_second{end}"] = 1000 * batch / metrics[f"latency/median{time}_ms"]
        for other in others:
            if other.entry.label == item.entry.reference:
                metrics |= samples.ratio_metrics(label, other.label(LATENCY), "latency/ratio")
        if trim:
            metrics["latency/low_ms"], metrics["latency/average_ms"] = samples.trimmed(label, trim)
        return metrics

    def saved_samples(self, item: Prepared[LatencyCell], samples: Samples) -> dict[str, list[list[float]]]:
        """Every time of every call, and the process's time per call in each round."""
        process = samples.process[item.label(LATENCY)][:, None].tolist()
        return {**super().saved_samples(item, samples), PROCESS: process}


def _timed_call(sessions: dict[str, Session], name: str, opener: Opener) -> TimedCall:
    """The inference of a session, which a reload replaces; timed by the runtime's own clock if it has one."""

    def call() -> object:
        return sessions[name].call()

    def reload() -> None:
        del sessions[name]  # before the new one is opened
        sessions[name] = opener()

    def timer() -> float:
        return sessions[name].timer()  # type: ignore[misc]

    return TimedCall(call, reload, timer if sessions[name].timer else None)


def _check(output: Tensor, expected: Tensor, runtime: Runtime) -> None:
    """Raise UnmeasuredError unless a session's output is the network's."""
    distance = float((output - expected).norm() / expected.norm()) if output.shape == expected.shape else float("nan")
    if not distance <= TOLERANCES[runtime.precision]:  # NaN too
        allowed = f"{TOLERANCES[runtime.precision]:g} are allowed in {runtime.precision}"
        raise UnmeasuredError(f"{runtime.name}: wrong output, {distance:.2g} from torch's in float32; {allowed}")
