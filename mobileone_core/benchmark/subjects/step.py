"""Cost of a training step: branch by branch, folded, or by timm's network with the same weights."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileone_core.benchmark.calls import LEARNING_RATE, TrainingStep, noise, peak_bytes, saved_bytes, synchronized
from mobileone_core.benchmark.interleave import Call, TimedCall
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import BenchmarkSpec, Entry, StepCell, StepPath
from mobileone_core.benchmark.subjects import Prepared, Subject, Timed, copy_suffixes
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import require
from mobileone_core.model.libraries import build_classifier
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.weights import export_weights
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.recipe import Recipe

SEED = 0  # of the random weights and images
STEP = "step"
SAVED, PEAK = "memory/saved_bytes", "memory/step_bytes"
COMPARED_PATHS: tuple[StepPath, ...] = ("branches", "timm")  # every other path is compared with these at its k
# Relative distance of float32 logits, as vectors, from those of the branches with the same weights. Layers of batch
# statistics enlarge roundings: up to 3e-4 was observed between paths, 1.4 between networks.
TOLERANCE = 0.05


class StepSubject(Subject[StepCell]):
    """Time and memory of every entry's training step.

    Metrics: time/step_ms with _low, _high, _min and _p90. Ratios, taken round by round, with _low and _high:
    time/step_ratio to the reference, time/step_growth to the smallest k of the same path, time/step_over_branches and
    time/step_over_timm to those paths at the same k. memory/saved_bytes is what autograd saves for the backward pass,
    each storage once and parameters left out; memory/step_bytes the peak within a step above what was allocated before;
    memory/saved_ratio, memory/step_ratio and so on are ratios of these. params counts the parameters. An entry is not
    timed if its logits differ from those of the branches with the same weights by more than TOLERANCE.
    """

    def __init__(self, spec: BenchmarkSpec[StepCell], execution: Execution, folder: Path) -> None:
        super().__init__(spec, execution, folder)
        self.logits: dict[str, Tensor] = {}
        torch.backends.cudnn.deterministic = True  # as in training

    def prepare(self, entry: Entry[StepCell]) -> Sequence[Prepared[StepCell]]:
        """Build an entry's step, call it once and measure its memory. Raises InputError for a missing device."""
        torch.set_num_threads(entry.cell.threads)
        steps = {STEP + suffix: build_step(entry.cell) for suffix in copy_suffixes(entry)}
        step = steps[STEP]
        device = step.images.device
        step()  # a first call alone allocates the optimizer's state and workspaces of libraries
        metrics = {
            SAVED: float(saved_bytes(step.logits, step.network.parameters())),
            PEAK: float(peak_bytes(step, device)),
            "params": float(sum(value.numel() for value in step.network.parameters())),
        }
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            self.logits[entry.label] = step.network.forward(step.images)  # in float32, not compiled
        calls = {name: TimedCall(_with_threads(item, entry.cell.threads)) for name, item in steps.items()}
        return [Prepared(entry, calls, metrics, _tags(entry.cell, device), step=step)]

    def compare(self, prepared: Sequence[Prepared[StepCell]]) -> None:
        """Compare the logits of every path with those of the branches at the same k."""
        labels = {item.entry.cell: item.entry.label for item in prepared}
        for item in prepared:
            branches = labels.get(replace(item.entry.cell, path="branches"))
            if branches is None or branches == item.entry.label:
                continue
            expected = self.logits[branches]
            distance = float((self.logits[item.entry.label] - expected).norm() / expected.norm())
            if not distance <= TOLERANCE:  # NaN too
                item.unmeasured = f"wrong logits, {distance:.2g} from those of the branches; {TOLERANCE:g} is allowed"

    def metrics(self, item: Prepared[StepCell], others: Timed[StepCell], samples: Samples) -> dict[str, float]:
        """The times of an entry's step, and the ratios of times and memory to those of other entries."""
        label = item.label(STEP)
        metrics = samples.time_metrics(label, "time/step")
        for name, other in _ratios(item, others).items():
            metrics |= samples.ratio_metrics(label, other.label(STEP), f"time/step_{name}")
            metrics[f"memory/saved_{name}"] = item.metrics[SAVED] / other.metrics[SAVED]
            metrics[f"memory/step_{name}"] = item.metrics[PEAK] / other.metrics[PEAK]
        return metrics


def step_device(cell: StepCell) -> torch.device:
    """A cell's device. Raises InputError if it is missing, or cannot compute in the cell's precision or layout."""
    return resolve_device(Execution(cell.device, channels_last=cell.channels_last), cell.precision)


def build_step(cell: StepCell) -> TrainingStep:
    """A step of plain SGD at LEARNING_RATE: forward, cross entropy, backward, update.

    Two cells of the same variant, k, classes and images have the same weights and images, whatever cell.path is.
    Torch's random state does not change. Raises InputError if timm lacks the network, or for a missing device.
    """
    device = step_device(cell)
    layout = Execution(cell.device, channels_last=cell.channels_last).memory_format(device)
    require(not cell.gap, "path", cell.path, cell.gap)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(SEED, "init"))
        model = build_model(cell.model, cell.num_classes, "branches" if cell.path == "timm" else cell.path)
        network = timm_twin(model, cell.variant, cell.num_classes) if cell.path == "timm" else model
    network = network.to(device, memory_format=layout)  # type: ignore[call-overload]
    size = (cell.batch_size, cell.model.in_channels, cell.image_size, cell.image_size)
    images = noise(size, SEED, "images").to(device, memory_format=layout)
    if cell.compile:
        network.compile()
    recipe = Recipe(batch_size=cell.batch_size, lr=LEARNING_RATE, label_smoothing=0.0, precision=cell.precision)
    labels = torch.arange(cell.batch_size, device=device) % cell.num_classes
    return TrainingStep(network, recipe, images, labels)


def timm_twin(model: MobileOne, variant: str, num_classes: int) -> nn.Module:
    """timm's network with our network's weights. Raises InputError if timm is not installed."""
    network = build_classifier("path", f"timm:mobileone_{variant}", num_classes)
    network.load_state_dict(export_weights(model, "timm"))
    return network


def _tags(cell: StepCell, device: torch.device) -> dict[str, str]:
    tags = {"runtime": cell.runtime_name, "threads": str(cell.threads), "precision": cell.precision}
    name = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    tags |= {"layout": "channels_last" if cell.channels_last else "contiguous", "device": f"{device}{name}"}
    tags |= {"execution": "compile"} if cell.compile else {}
    return tags | ({"version.timm": version("timm")} if cell.path == "timm" else {})


def _with_threads(step: TrainingStep, threads: int) -> Call:
    """A call that sets torch's number of threads, runs the step and waits for the device."""
    step_and_wait = synchronized(step, step.images.device)

    def call() -> None:
        torch.set_num_threads(threads)
        step_and_wait()

    return call


def _ratios(item: Prepared[StepCell], others: Sequence[Prepared[StepCell]]) -> dict[str, Prepared[StepCell]]:
    """The entries that an entry's ratios refer to, by the ratio's name; for some it is the entry itself."""
    cell, by_cell = item.entry.cell, {other.entry.cell: other for other in others}
    same_path = [other for other in others if replace(other.entry.cell, k=cell.k) == cell]
    smallest = min(same_path, key=lambda other: other.entry.cell.k)
    references: dict[str, Prepared[StepCell] | None] = {
        "ratio": next((other for other in others if other.entry.label == item.entry.reference), None),
        "growth": smallest if len(same_path) > 1 else None,
        **{f"over_{path}": by_cell.get(replace(cell, path=path)) for path in COMPARED_PATHS if path != cell.path},
    }
    return {name: other for name, other in references.items() if other is not None}
