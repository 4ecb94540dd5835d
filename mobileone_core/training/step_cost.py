"""What networks cost side by side: time and peak memory of a training step and of an inference, in both forms."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mobileone_core.latency.comparison import ArmResult
from mobileone_core.latency.interleave import Handling, averaging, interleave
from mobileone_core.latency.samples import Samples
from mobileone_core.model.cost import model_cost
from mobileone_core.training.comparison import ComparisonArm, ComparisonSpec, Form
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.figures import TWIN, ratio_figures, time_figures
from mobileone_core.training.observer import EpochRecord, Observer, TrainingFailed
from mobileone_core.training.peak_memory import peak_bytes
from mobileone_core.training.timed_calls import Calls, Inference, TrainingStep, build_calls, build_forms


@dataclass(frozen=True)
class Subject:
    """One form of an arm with its calls by name: step and inference; the baseline's twins end in _control.

    peaks: bytes by the same names, without the twins.
    """

    arm: ComparisonArm
    form: Form
    calls: Calls
    peaks: Mapping[str, int]

    def label(self, call: str) -> str:
        """The call's name among those of all subjects."""
        return f"{call} {self.form} {self.arm.label}"


def compare_forms(
    spec: ComparisonSpec,
    *,
    execution: Execution,
    data_root: Path | None,  # noqa: ARG001  # as the other measurements have it: images are random here
    observer: Observer,
) -> list[ArmResult]:
    """Every arm's train form and deployed form, measured in this process; nothing else should run on the machine.

    step: one training step at the recipe's batch size, the deployed form trained as a plain network; inference: one
    image, a time being the mean over 10 ms. time/<call>_ms with _low, _high, _min and _p90 of the protocol; _ratio, to
    the baseline arm's train form, and on train forms _over_deployed, to their own deployed form, each with _low and
    _high. memory/<call>_bytes is the peak within the call above what lies there before: activations, working buffers
    and gradients count, parameters and the optimizer's state do not. params and macs (one image's) are exact. The
    baseline has control/<call>_ratio, that of a second copy of itself. host/load is the load average of the minute
    before.
    The observer is told after every round, as if it were an epoch. Raises InputError, TrainingFailed where a loss
    is not finite, and what the observer raises.
    """
    execution = replace(execution, processes=1)
    torch.set_num_threads(execution.threads)
    torch.backends.cudnn.deterministic = True
    load = os.getloadavg()[0]
    subjects = []
    for arm in spec.arms:
        subjects += _subjects(arm, spec, execution)
        observer.batch_finished()
    samples = _timed(subjects, spec, execution, observer)
    _require_finite(subjects)
    return [_result(subject, subjects, samples, spec.baseline, load) for subject in subjects]


def _subjects(arm: ComparisonArm, spec: ComparisonSpec, execution: Execution) -> list[Subject]:
    """Both forms of an arm, on the device, calibrated and called once."""
    device = resolve_device(execution, arm.spec.recipe.precision)
    subjects = []
    for form, network in build_forms(arm.spec, execution, device).items():
        calls = build_calls(network, arm.spec, execution)
        peaks = {}
        for name, call in calls.items():
            call()  # what a first call alone allocates: the optimizer's state, a library's workspace
            peaks[name] = peak_bytes(call, device)
        if arm.label == spec.baseline:
            twins = build_calls(network, arm.spec, execution)
            calls |= {name + TWIN: call for name, call in twins.items()}
        subjects.append(Subject(arm, form, calls, peaks))
    return subjects


def _timed(subjects: list[Subject], spec: ComparisonSpec, execution: Execution, observer: Observer) -> Samples:
    calls: dict[str, Callable[[], object]] = {
        subject.label(name): call for subject in subjects for name, call in subject.calls.items()
    }

    def tell(number: int) -> None:
        observer.batch_finished()
        observer.epoch_finished(EpochRecord(number, 0, time.time_ns() // 1_000_000, {}))

    device = resolve_device(execution, spec.arms[0].spec.recipe.precision)
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
    inferences = {label: call for label, call in calls.items() if isinstance(call, Inference)}
    handling = {label: Handling(timer=averaging(call, wait)) for label, call in inferences.items()}
    return interleave(calls, spec.protocol, tell, wait, handling)


def _require_finite(subjects: list[Subject]) -> None:
    for subject in subjects:
        step = subject.calls["step"]
        if isinstance(step, TrainingStep) and not step.loss.isfinite():
            raise TrainingFailed(
                f"{subject.arm.label}, {subject.form} form: the loss of the timed steps is {float(step.loss)}"
            )


def _result(subject: Subject, subjects: list[Subject], samples: Samples, baseline: str, load: float) -> ArmResult:
    arm, form = subject.arm, subject.form
    cost = getattr(model_cost(arm.spec.model, arm.spec.data.image_size, arm.spec.data.num_classes), form)
    metrics = {"params": float(cost.params), "macs": float(cost.macs), "host/load": load}
    reference = next(item for item in subjects if (item.arm.label, item.form) == (baseline, "train"))
    plain = next(item for item in subjects if (item.arm.label, item.form) == (arm.label, "deployed"))
    for call, peak in subject.peaks.items():
        label = subject.label(call)
        metrics |= {f"memory/{call}_bytes": float(peak)} | time_figures(samples, label, f"time/{call}")
        metrics |= ratio_figures(samples, label, reference.label(call), f"time/{call}_ratio")
        if form == "train":
            metrics |= ratio_figures(samples, label, plain.label(call), f"time/{call}_over_deployed")
            metrics[f"memory/{call}_over_deployed"] = peak / plain.peaks[call]
        if call + TWIN in subject.calls:
            metrics[f"control/{call}_ratio"] = samples.ratio(subject.label(call + TWIN), label).value
    kept = {call: samples.lists(subject.label(call)) for call in subject.calls}
    return ArmResult(arm.label, arm.factors, form, metrics, kept)
