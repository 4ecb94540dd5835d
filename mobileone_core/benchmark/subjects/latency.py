"""Latencies side by side in one process: every entry built, opened, checked and timed."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from mobileone_core.benchmark.figures import CONTROL, LATENCY, PROCESS, Kept, latency_figures
from mobileone_core.benchmark.interleave import Handling, Timer, interleave
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import Entry, EntryResult, LatencySpec
from mobileone_core.latency import runtimes
from mobileone_core.latency.cell import LatencyCell
from mobileone_core.latency.networks import build_images, build_network, count
from mobileone_core.latency.runtimes.session import Opener, Session, Subject, UnmeasuredError

Tell = Callable[[int], object]
# Relative distance of outputs, as vectors. Half precision adds its rounding in every layer of an untrained network.
TOLERANCES = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.25}


class Reopened:
    """A session that can be opened anew; calls go to the newest."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.session: Session = opener()

    def __call__(self) -> object:
        return self.session.call()

    def reload(self) -> None:
        """Open the network again, the old session gone."""
        del self.session
        self.session = self._opener()


@dataclass
class Prepared:
    """An entry ready to be timed: its sessions by the name of their samples, its counts, or why there are none."""

    entry: Entry[LatencyCell]
    counts: dict[str, float] = field(default_factory=dict)
    sessions: dict[str, Reopened] = field(default_factory=dict)
    unmeasured: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """How it ran: as asked, and as the runtime said where it could be asked."""
        asked = self.entry.cell.runtime
        tags = {"runtime": asked.name, "threads": str(asked.threads), "precision": asked.precision}
        tags["layout"] = asked.layout
        return {**tags, **(self.sessions[LATENCY].session.tags if self.sessions else {})}

    def label(self, name: str) -> str:
        """A session's name among those of all arms."""
        return f"{name} {self.entry.label}"


def measure_latency(spec: LatencySpec, tell: Tell) -> list[EntryResult]:
    """Every entry timed by the protocol in this process; nothing else should run on the machine.

    A row an arm: params, macs (of the timed form), host/load (the load average of the minute before), and the figures
    of latency_figures; samples are every time of a call by name, rounds of bursts in milliseconds, and the process's
    time a call, one a round. An entry without times says why: no library has it, its runtime cannot take it, or
    its output is not that of torch in float32 within TOLERANCES. tell(0) is called between two preparations, tell(n)
    after round n; what it raises ends the measurement. Raises InputError.
    """
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder, threads_restored():
        prepared = []
        for index, entry in enumerate(spec.entries):
            prepared.append(_prepared(entry, Path(folder) / str(index)))
            tell(0)
        kept = _timed(prepared, spec, tell)
    return [_result(item, kept, spec, load) for item in prepared]


@contextlib.contextmanager
def threads_restored() -> Iterator[None]:
    """Torch begins with one thread, so that networks come out alike everywhere, and ends with as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _prepared(entry: Entry[LatencyCell], folder: Path) -> Prepared:
    """Build, count, open and check an arm; the reference twice."""
    prepared = Prepared(entry)
    folder.mkdir()
    runtimes.require_runtime(entry.cell.runtime)
    try:
        network = build_network(entry.cell)
        images = build_images(entry.cell)
        params, macs = count(network, images)
        prepared.counts = {"params": float(params), "macs": float(macs)}
        with torch.inference_mode():
            expected = network(images)
        sessions = _opened(entry, Subject(network, images, entry.cell.runtime, folder))
        for session in sessions.values():
            _check(session, expected, entry)
    except UnmeasuredError as error:
        prepared.unmeasured = str(error)
    except Exception as error:
        if not prepared.counts:  # not the runtime's doing
            raise
        prepared.unmeasured = f"{entry.cell.runtime.name}: {type(error).__name__}: {_first_line(error)}"
    else:
        prepared.sessions = sessions
    return prepared


def _opened(entry: Entry[LatencyCell], subject: Subject) -> dict[str, Reopened]:
    opener = runtimes.prepare(subject)
    names = (LATENCY, CONTROL) if entry.reference == entry.label else (LATENCY,)
    return {name: Reopened(opener) for name in names}


def _check(session: Reopened, expected: Tensor, entry: Entry[LatencyCell]) -> None:
    """Raise UnmeasuredError where a session's output is not that of the network."""
    runtime = entry.cell.runtime
    output = session.session.output()
    distance = float((output - expected).norm() / expected.norm()) if output.shape == expected.shape else float("nan")
    if not distance <= TOLERANCES[runtime.precision]:  # NaN too
        allowed = f"{TOLERANCES[runtime.precision]:g} are allowed in {runtime.precision}"
        raise UnmeasuredError(f"{runtime.name}: wrong output, {distance:.2g} from torch's in float32; {allowed}")


def _timed(prepared: list[Prepared], spec: LatencySpec, tell: Tell) -> dict[str, Kept]:
    """What is kept of every entry, by its label."""
    sessions = {item.label(name): session for item in prepared for name, session in item.sessions.items()}
    if not sessions:
        return {}
    handling = {label: Handling(session.reload, _timer(session)) for label, session in sessions.items()}
    samples = interleave(sessions, spec.protocol, tell, handling=handling)
    return {item.entry.label: _kept(item, samples) for item in prepared if item.sessions}


def _timer(session: Reopened) -> Timer | None:
    if session.session.timer is None:
        return None

    def timed() -> float:
        timer = session.session.timer
        assert timer is not None  # every opening of one network has it, or none
        return timer()

    return timed


def _kept(item: Prepared, samples: Samples) -> Kept:
    kept = {name: samples.lists(item.label(name)) for name in item.sessions}
    return {**kept, PROCESS: samples.process[item.label(LATENCY)][:, None].tolist()}


def _result(item: Prepared, kept: Mapping[str, Kept], spec: LatencySpec, load: float) -> EntryResult:
    entry = item.entry
    own, reference = kept.get(entry.label, {}), kept.get(entry.reference, {})
    metrics = {**item.counts, "host/load": load, **latency_figures(spec.protocol, own, reference)}
    return EntryResult(entry.label, entry.factors, "", metrics, own, item.tags, item.unmeasured)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
