"""The engine of every benchmark: entries are built, checked and timed side by side in this process."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mobileone_core.benchmark.interleave import Progress, interleave
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import AnySpec, DeployedSpec, EntryResult, FormsSpec, LatencySpec, StepSpec
from mobileone_core.benchmark.subjects import Prepared, Subject
from mobileone_core.benchmark.subjects.forms import DeployedSubject, FormsSubject
from mobileone_core.benchmark.subjects.latency import LatencySubject
from mobileone_core.benchmark.subjects.step import StepSubject
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed

SUBJECTS: Mapping[type[AnySpec], type[Subject[Any]]] = {
    LatencySpec: LatencySubject,
    StepSpec: StepSubject,
    FormsSpec: FormsSubject,
    DeployedSpec: DeployedSubject,
}


def measure(spec: AnySpec, *, execution: Execution, progress: Progress) -> list[EntryResult]:
    """Measure every entry of a benchmark by its protocol, side by side; nothing else should run on the machine.

    Args:
        spec: what is measured: a LatencySpec, a StepSpec or a FormsSpec.
        execution: device, threads and layout of a FormsSpec, threads of a DeployedSpec; other cells name their own.
        progress: called with 0 after each entry is prepared and with n after round n; what it raises ends the
            measurement.

    Returns one result per entry, or two per entry of a FormsSpec, with the metrics that its subject documents,
    control/<call>_ratio for references (that of a second copy of the call to the first) and host/load, the load average
    of the minute before. An entry that cannot be timed, or computes something else, has no times and says why.

    Raises InputError, and TrainingFailed if the loss of a timed training step is not finite.

    Example:
        spec = LatencySpec((Entry("s0", {}, LatencyCell(), reference="s0"),))
        result = measure(spec, execution=Execution(), progress=print)[0]
        result.metrics["latency/median_ms"]
    """
    load, *_ = os.getloadavg()
    prepared: list[Prepared[Any]] = []
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # so that networks come out alike everywhere
        folder = Path(stack.enter_context(TemporaryDirectory()))
        subject = SUBJECTS[type(spec)](spec, execution, folder)
        for entry in spec.entries:
            prepared += subject.prepare(entry)
            progress(0)
        subject.compare(prepared)
        timed = [item for item in prepared if not item.unmeasured]
        calls = {item.label(name): call for item in timed for name, call in item.calls.items()}
        samples = interleave(calls, spec.protocol, progress) if calls else Samples({})
    for item in timed:
        if item.step is not None and not item.step.loss.isfinite():
            form = f", {item.form} form" if item.form else ""
            raise TrainingFailed(f"{item.entry.label}{form}: the loss of the timed steps is {float(item.step.loss)}")
    return [subject.result(item, timed, samples, load) for item in prepared]
