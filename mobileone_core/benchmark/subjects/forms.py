"""What networks cost side by side: time and peak memory of a training step and of an inference, in both forms."""

import copy
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileone_core.benchmark.calls import LEARNING_RATE, Inference, TrainingStep
from mobileone_core.benchmark.figures import TWIN, ratio_figures, time_figures
from mobileone_core.benchmark.interleave import Handling, averaging, interleave
from mobileone_core.benchmark.memory import peak_bytes
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import Entry, EntryResult, FormsSpec
from mobileone_core.data.seeding import derive_seed
from mobileone_core.latency.cell import Form
from mobileone_core.model.calibration import calibrate
from mobileone_core.model.cost import model_cost
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.observer import EpochRecord, Observer, TrainingFailed

CALIBRATION_BATCHES = 3
Calls = dict[str, TrainingStep | Inference]


@dataclass(frozen=True)
class Subject:
    """One form of an entry with its calls by name: step and inference; the baseline's twins end in _control.

    peaks: bytes by the same names, without the twins.
    """

    entry: Entry[CellSpec]
    form: Form
    calls: Calls
    peaks: Mapping[str, int]

    def label(self, call: str) -> str:
        """The call's name among those of all subjects."""
        return f"{call} {self.form} {self.entry.label}"


def compare_forms(
    spec: FormsSpec,
    *,
    execution: Execution,
    data_root: Path | None,  # noqa: ARG001  # as the other measurements have it: images are random here
    observer: Observer,
) -> list[EntryResult]:
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
    for entry in spec.entries:
        subjects += _subjects(entry, spec, execution)
        observer.batch_finished()
    samples = _timed(subjects, spec, execution, observer)
    _require_finite(subjects)
    return [_result(subject, subjects, samples, spec.baseline, load) for subject in subjects]


def _subjects(entry: Entry[CellSpec], spec: FormsSpec, execution: Execution) -> list[Subject]:
    """Both forms of an entry, on the device, calibrated and called once."""
    device = resolve_device(execution, entry.cell.recipe.precision)
    subjects = []
    for form, network in build_forms(entry.cell, execution, device).items():
        calls = build_calls(network, entry.cell, execution)
        peaks = {}
        for name, call in calls.items():
            call()  # what a first call alone allocates: the optimizer's state, a library's workspace
            peaks[name] = peak_bytes(call, device)
        if entry.label == spec.baseline:
            twins = build_calls(network, entry.cell, execution)
            calls |= {name + TWIN: call for name, call in twins.items()}
        subjects.append(Subject(entry, form, calls, peaks))
    return subjects


def _timed(subjects: list[Subject], spec: FormsSpec, execution: Execution, observer: Observer) -> Samples:
    calls: dict[str, Callable[[], object]] = {
        subject.label(name): call for subject in subjects for name, call in subject.calls.items()
    }

    def tell(number: int) -> None:
        observer.batch_finished()
        observer.epoch_finished(EpochRecord(number, 0, time.time_ns() // 1_000_000, {}))

    device = resolve_device(execution, spec.entries[0].cell.recipe.precision)
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
    inferences = {label: call for label, call in calls.items() if isinstance(call, Inference)}
    handling = {label: Handling(timer=averaging(call, wait)) for label, call in inferences.items()}
    return interleave(calls, spec.protocol, tell, wait, handling)


def _require_finite(subjects: list[Subject]) -> None:
    for subject in subjects:
        step = subject.calls["step"]
        if isinstance(step, TrainingStep) and not step.loss.isfinite():
            raise TrainingFailed(
                f"{subject.entry.label}, {subject.form} form: the loss of the timed steps is {float(step.loss)}"
            )


def _result(subject: Subject, subjects: list[Subject], samples: Samples, baseline: str, load: float) -> EntryResult:
    entry, form = subject.entry, subject.form
    cost = getattr(model_cost(entry.cell.model, entry.cell.data.image_size, entry.cell.data.num_classes), form)
    metrics = {"params": float(cost.params), "macs": float(cost.macs), "host/load": load}
    reference = next(item for item in subjects if (item.entry.label, item.form) == (baseline, "train"))
    plain = next(item for item in subjects if (item.entry.label, item.form) == (entry.label, "deployed"))
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
    return EntryResult(entry.label, entry.factors, form, metrics, kept)


def build_forms(spec: CellSpec, execution: Execution, device: torch.device) -> dict[Form, nn.Module]:
    """A cell's network in train form, initialized by its seed and calibrated, and that network folded."""
    torch.manual_seed(derive_seed(spec.seed, "init"))
    network = build_model(spec.model, spec.data.num_classes, execution.blocks).to(device)
    calibrate(network, [_images(spec, "calibration", index).to(device) for index in range(CALIBRATION_BATCHES)])
    layout = _layout(execution)
    return {"train": network.to(memory_format=layout), "deployed": reparameterize(network).to(memory_format=layout)}


def build_calls(network: nn.Module, spec: CellSpec, execution: Execution) -> Calls:
    """step, on a batch of the recipe's size and at LEARNING_RATE, and inference, on one image.

    Each has its own copy of the network.
    """
    device = next(network.parameters()).device
    images = _images(spec, "images").to(device).contiguous(memory_format=_layout(execution))
    labels = torch.arange(len(images), device=device) % spec.data.num_classes
    learner, reader = copy.deepcopy(network), copy.deepcopy(network)
    if execution.compile:
        learner.compile()
        reader.compile()
    step = TrainingStep(learner, replace(spec.recipe, lr=LEARNING_RATE), images, labels)
    return {"step": step, "inference": Inference(reader, spec.recipe, images[:1])}


def _images(spec: CellSpec, *purpose: str | int) -> Tensor:
    """Random images (B, C, S, S) in the recipe's and the data's shape."""
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, *purpose))
    size = spec.data.image_size
    return torch.randn((spec.recipe.batch_size, spec.data.channels, size, size), generator=generator)


def _layout(execution: Execution) -> torch.memory_format:
    return torch.channels_last if execution.channels_last else torch.contiguous_format
