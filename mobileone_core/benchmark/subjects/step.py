"""Training steps side by side in one process: every entry built, checked, weighed and timed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mobileone_core.benchmark.calls import LEARNING_RATE, TrainingStep
from mobileone_core.benchmark.figures import TWIN, ratio_figures, time_figures
from mobileone_core.benchmark.interleave import Call, interleave
from mobileone_core.benchmark.memory import peak_bytes, saved_bytes
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import Entry, EntryResult, StepSpec
from mobileone_core.benchmark.step_cell import StepCell, StepPath
from mobileone_core.benchmark.subjects.latency import threads_restored
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError, require
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.weights import export_weights
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.recipe import Recipe

SEED = 0  # of weights and images, which are random
Tell = Callable[[int], object]
STEP = "step"
SAVED, PEAK = "memory/saved_bytes", "memory/step_bytes"
OTHERS: tuple[StepPath, ...] = ("branches", "timm")  # what a path is held against at its own k
# Relative distance of float32 logits, as vectors, from those of the branches with the same weights. Layers of batch
# statistics enlarge roundings: seen up to 3e-4 from path to path, 1.4 from one network to another.
TOLERANCE = 0.05


@dataclass
class Prepared:
    """An entry ready to be timed: its calls by the name of their samples, what it holds, and what it says of images."""

    entry: Entry[StepCell]
    calls: dict[str, TrainingStep]
    held: dict[str, float]
    logits: Tensor
    tags: dict[str, str]
    unmeasured: str = ""

    def label(self, name: str) -> str:
        """A call's name among those of all arms."""
        return f"{name} {self.entry.label}"


def measure_steps(spec: StepSpec, tell: Tell) -> list[EntryResult]:
    """Every arm's step measured by the protocol in this process; nothing else should run on the machine.

    time/step_ms with _low, _high, _min and _p90. Ratios, taken round by round, each with _low and _high:
    time/step_ratio to the arm's reference, time/step_growth to the smallest k of its own path, time/step_over_branches
    and time/step_over_timm to those paths at its own k. memory/saved_bytes is what autograd keeps for the backward,
    every storage once and parameters left out; memory/step_bytes the peak within a step above what lies there before;
    memory/saved_ratio and so on are their ratios. The reference has control/step_ratio, that of a second copy of
    itself. host/load is the load average of the minute before. An entry whose logits are not those of its branches
    within TOLERANCE has no times. params counts the parameters.

    tell(0) is called between two preparations, tell(n) after round n; what it raises ends the measurement. Raises
    InputError, and TrainingFailed where a loss is not finite.
    """
    load = os.getloadavg()[0]
    torch.backends.cudnn.deterministic = True  # as training has it
    with threads_restored():
        prepared = []
        for entry in spec.entries:
            prepared.append(_prepared(entry))
            tell(0)
        _check(prepared)
        samples = _timed(prepared, spec, tell)
    _require_finite(prepared)
    return [_result(item, prepared, samples, load) for item in prepared]


def _prepared(entry: Entry[StepCell]) -> Prepared:
    """Build an entry, the reference twice, call it once, and weigh it."""
    torch.set_num_threads(entry.cell.threads)
    step = build_step(entry.cell)
    step()  # what a first call alone allocates: the optimizer's state, a library's workspace
    held = {
        SAVED: float(saved_bytes(step.logits, step.network.parameters())),
        PEAK: float(peak_bytes(step, step.images.device)),
    }
    held["params"] = float(sum(value.numel() for value in step.network.parameters()))
    calls = {STEP: step}
    if entry.reference == entry.label:
        calls[STEP + TWIN] = build_step(entry.cell)
    return Prepared(entry, calls, held, _logits(step), _tags(entry.cell, step.images.device))


@torch.no_grad()
def _logits(step: TrainingStep) -> Tensor:
    """What the network says of the batch, in float32 and not compiled."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits: Tensor = step.network.forward(step.images)
    return logits


def _tags(cell: StepCell, device: torch.device) -> dict[str, str]:
    """How it ran."""
    tags = {"runtime": cell.runtime_name, "threads": str(cell.threads), "precision": cell.precision}
    tags |= {"layout": "channels_last" if cell.channels_last else "contiguous", "device": str(device)}
    if device.type == "cuda":
        tags["device"] = f"{device} {torch.cuda.get_device_name(device)}"
    if cell.compile:
        tags["execution"] = "compile"
    if cell.path == "timm":
        import timm

        tags["version.timm"] = timm.__version__
    return tags


def _check(prepared: Sequence[Prepared]) -> None:
    """Every path computes what the branches compute with the same weights, or it is not timed."""
    for item in prepared:
        other = _at(prepared, replace(item.entry.cell, path="branches"))
        if other is None or other is item:
            continue
        distance = float((item.logits - other.logits).norm() / other.logits.norm())
        if not distance <= TOLERANCE:  # NaN too
            item.unmeasured = f"wrong logits, {distance:.2g} from those of the branches; {TOLERANCE:g} is allowed"


def _timed(prepared: Sequence[Prepared], spec: StepSpec, tell: Tell) -> Samples:
    calls: dict[str, Call] = {
        item.label(name): _with_threads(step, item.entry.cell.threads)
        for item in prepared
        if not item.unmeasured
        for name, step in item.calls.items()
    }
    on_gpu = any(entry.cell.device == "cuda" for entry in spec.entries)
    return interleave(calls, spec.protocol, tell, torch.cuda.synchronize if on_gpu else None)


def _with_threads(step: TrainingStep, threads: int) -> Call:
    def call() -> None:
        torch.set_num_threads(threads)
        step()

    return call


def _require_finite(prepared: Sequence[Prepared]) -> None:
    for item in prepared:
        loss = item.calls[STEP].loss
        if not loss.isfinite():
            raise TrainingFailed(f"{item.entry.label}: the loss of the timed steps is {float(loss)}")


def _result(item: Prepared, prepared: Sequence[Prepared], samples: Samples, load: float) -> EntryResult:
    entry = item.entry
    metrics = {**item.held, "host/load": load}
    if item.unmeasured:
        return EntryResult(entry.label, entry.factors, "", metrics, {}, item.tags, item.unmeasured)
    label = item.label(STEP)
    metrics |= time_figures(samples, label, "time/step")
    for name, other in _others(item, prepared).items():
        metrics |= ratio_figures(samples, label, other.label(STEP), f"time/step_{name}")
        metrics[f"memory/saved_{name}"] = item.held[SAVED] / other.held[SAVED]
        metrics[f"memory/step_{name}"] = item.held[PEAK] / other.held[PEAK]
    if STEP + TWIN in item.calls:
        metrics["control/step_ratio"] = samples.ratio(item.label(STEP + TWIN), label).value
    kept = {name: samples.lists(item.label(name)) for name in item.calls}
    return EntryResult(entry.label, entry.factors, "", metrics, kept, item.tags)


def _others(item: Prepared, prepared: Sequence[Prepared]) -> dict[str, Prepared]:
    """What an arm's ratios refer to, by the ratio's name; itself where it is the one."""
    cell = item.entry.cell
    alike = [other for other in prepared if replace(other.entry.cell, k=cell.k) == cell and not other.unmeasured]
    least = min(alike, key=lambda other: other.entry.cell.k)
    found: dict[str, Prepared | None] = {
        "ratio": next(other for other in prepared if other.entry.label == item.entry.reference),
        "growth": least if len(alike) > 1 else None,
        **{f"over_{path}": _at(prepared, replace(cell, path=path)) for path in OTHERS if path != cell.path},
    }
    return {name: other for name, other in found.items() if other is not None and not other.unmeasured}


def _at(prepared: Sequence[Prepared], cell: StepCell) -> Prepared | None:
    """The entry of a cell, where it is measured."""
    return next((other for other in prepared if other.entry.cell == cell), None)


def step_device(cell: StepCell) -> torch.device:
    """A cell's device; InputError where it is not there, or does not know the cell's precision or layout."""
    return resolve_device(Execution(cell.device, channels_last=cell.channels_last), cell.precision)


def build_step(cell: StepCell) -> TrainingStep:
    """A step of plain SGD at LEARNING_RATE: forward, cross entropy, backward, update.

    Two cells of the same variant, k, classes and images have the same weights and images, whatever their path. The
    random state stays as it was. Raises InputError for a network that timm has not, or a device that is not there.
    """
    device = step_device(cell)
    layout = torch.channels_last if cell.channels_last else torch.contiguous_format
    network = _network(cell).to(device, memory_format=layout)  # type: ignore[call-overload]
    if cell.compile:
        network.compile()
    recipe = Recipe(batch_size=cell.batch_size, lr=LEARNING_RATE, label_smoothing=0.0, precision=cell.precision)
    labels = torch.arange(cell.batch_size, device=device) % cell.num_classes
    return TrainingStep(network, recipe, _images(cell).to(device, memory_format=layout), labels)


def _network(cell: StepCell) -> nn.Module:
    require(not cell.gap, "path", cell.path, cell.gap)
    execution = "branches" if cell.path == "timm" else cell.path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "init"))
        network = build_model(cell.model, cell.num_classes, execution)
    return timm_twin(network, cell.variant, cell.num_classes) if cell.path == "timm" else network


def timm_twin(own: MobileOne, variant: str, num_classes: int) -> nn.Module:
    """timm's network with the weights of ours. Raises InputError where timm is not installed."""
    try:
        import timm
    except ImportError as error:
        raise InputError("path: timm is not installed; pip install timm") from error
    network: nn.Module = timm.create_model(f"mobileone_{variant}", pretrained=False, num_classes=num_classes)
    network.load_state_dict(export_weights(own, "timm"))
    return network


def _images(cell: StepCell) -> Tensor:
    """Normal noise: (B, C, S, S)."""
    generator = torch.Generator().manual_seed(derive_seed(SEED, "images"))
    shape = (cell.batch_size, cell.model.in_channels, cell.image_size, cell.image_size)
    return torch.randn(shape, generator=generator)
