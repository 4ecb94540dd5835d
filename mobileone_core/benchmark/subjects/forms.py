"""Cost of both forms of a network: a training step and an inference, in train form and in deployed form."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileone_core.benchmark.calls import LEARNING_RATE, Inference, TrainingStep, noise, peak_bytes, synchronized
from mobileone_core.benchmark.interleave import TimedCall, averaging_timer
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import BenchmarkSpec, Entry
from mobileone_core.benchmark.subjects import CONTROL, Prepared, Subject, Timed, copy_suffixes
from mobileone_core.data.seeding import derive_seed
from mobileone_core.latency.cell import Form, Runtime
from mobileone_core.latency.networks import count_cost
from mobileone_core.latency.runtimes import Opener, SessionSource, prepare
from mobileone_core.latency.runtimes.onnx_file import ONNX_FILE, onnxruntime_session
from mobileone_core.model.cost import model_cost
from mobileone_core.model.network import calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.onnx.export import verify_onnx
from mobileone_core.onnx.quantize import quantize_network
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.tasks.backbones import cost_of
from mobileone_core.training.tasks.task import build_task

CALIBRATION_BATCHES = 3
STEP, INFERENCE = "step", "inference"


class FormsSubject(Subject[CellSpec]):
    """Time and memory of a training step and an inference of every entry's network, in both forms.

    step is a training step at the recipe's batch size (the deployed form trains as a plain network), inference one
    image, timed as the mean over 10 ms. Metrics per call: time/<call>_ms with _low, _high, _min and _p90;
    time/<call>_ratio to the baseline's train form and, for train forms, time/<call>_over_deployed to their deployed
    form, with _low and _high. memory/<call>_bytes is the peak within the call above what was allocated before:
    activations, working buffers and gradients count, parameters and the optimizer's state do not. params, and macs of
    one image, are exact.
    """

    def __init__(self, spec: BenchmarkSpec[CellSpec], execution: Execution, folder: Path) -> None:
        super().__init__(spec, replace(execution, processes=1), folder)
        torch.set_num_threads(execution.threads)
        torch.backends.cudnn.deterministic = True  # as in training

    def prepare(self, entry: Entry[CellSpec]) -> Sequence[Prepared[CellSpec]]:
        """Build both forms of an entry and measure the memory of their calls. Raises InputError without the device."""
        device = resolve_device(self.execution, entry.cell.recipe.precision)
        forms = build_forms(entry.cell, self.execution, device)
        return [self._prepared(Prepared(entry, form=form), network, device) for form, network in forms.items()]

    def _prepared(self, item: Prepared[CellSpec], network: nn.Module, device: torch.device) -> Prepared[CellSpec]:
        cell = item.entry.cell
        cost = vars(getattr(model_cost(cell.model, cell.data.image_size, cell.data.num_classes), item.form))
        counts = cost_of(network, _images(cell, "images")[:1].to(device)) if cell.backbone else cost
        metrics = dict(zip(("params", "macs"), map(float, counts.values()), strict=True))
        calls = {}
        for suffix in copy_suffixes(item.entry):
            step, inference = build_calls(network, cell, self.execution)
            calls[STEP + suffix] = TimedCall(synchronized(step, device))
            calls[INFERENCE + suffix] = TimedCall(read := synchronized(inference, device), timer=averaging_timer(read))
            if not suffix:
                item.step = step
                step()  # a first call alone allocates the optimizer's state and workspaces of libraries
                for name, call in ((STEP, step), (INFERENCE, inference)):
                    metrics[f"memory/{name}_bytes"] = float(peak_bytes(call, device))
        item.calls, item.metrics = calls, metrics
        return item

    def metrics(self, item: Prepared[CellSpec], others: Timed[CellSpec], samples: Samples) -> dict[str, float]:
        """The times of a form's calls, and their ratios to the baseline and to the deployed form."""
        by_name = {(other.entry.label, other.form): other for other in others}
        baseline = by_name.get((item.entry.reference, "train")) or by_name[item.entry.reference, "deployed"]
        deployed = by_name[item.entry.label, "deployed"]
        metrics: dict[str, float] = {}
        for call in (name for name in item.calls if not name.endswith(CONTROL)):
            label, memory = item.label(call), f"memory/{call}_bytes"
            metrics |= samples.time_metrics(label, f"time/{call}")
            metrics |= samples.ratio_metrics(label, baseline.label(call), f"time/{call}_ratio")
            if item.form == "train":
                metrics |= samples.ratio_metrics(label, deployed.label(call), f"time/{call}_over_deployed")
                metrics[f"memory/{call}_over_deployed"] = item.metrics[memory] / deployed.metrics[memory]
        return metrics


class DeployedSubject(FormsSubject):
    """Time that ONNX Runtime takes for one image with every entry's whole network as it is exported.

    Metrics are those of an inference in deployed form; params and macs count the exported network. The network of a
    cell with quantization is quantized first, with random images for calibration.
    """

    def prepare(self, entry: Entry[CellSpec]) -> Sequence[Prepared[CellSpec]]:
        """Build, count, open and check an entry's network. Raises InputError if the file's outputs are wrong."""
        cell, runtime = entry.cell, Runtime(threads=self.execution.threads)
        trained, images = build_forms(cell, self.execution, torch.device("cpu"))["train"], _images(cell, "images")[:1]
        network = build_task(cell).exportable(trained, cell.data.image_size)
        params, macs = count_cost(network, images)
        folder = self.folder / str(self.spec.entries.index(entry))
        folder.mkdir()
        source, file = SessionSource(network, images, runtime, folder), folder / "int8.onnx"
        if cell.is_quantized:
            quantize_network(network, cell.quantization, [_images(cell, "images")], file)  # type: ignore[arg-type]
            opener: Opener = partial(onnxruntime_session, source, file)
        else:
            opener = prepare(source)
            verify_onnx(folder / ONNX_FILE, network, images)
        sessions = {INFERENCE + suffix: opener() for suffix in copy_suffixes(entry)}
        calls = {name: TimedCall(item.call, timer=averaging_timer(item.call)) for name, item in sessions.items()}
        metrics, tags = {"params": float(params), "macs": float(macs)}, {"runtime": runtime.name}
        return [Prepared(entry, calls, metrics, {**tags, **sessions[INFERENCE].tags}, form="deployed")]


def build_forms(cell: CellSpec, execution: Execution, device: torch.device) -> dict[Form, nn.Module]:
    """A cell's network in train form, initialized by its seed and calibrated, and the same network re-parameterized."""
    torch.manual_seed(derive_seed(cell.seed, "init"))
    network = build_task(cell).build_network(execution.blocks).to(device)
    calibrate(network, [_images(cell, "calibration", index).to(device) for index in range(CALIBRATION_BATCHES)])
    layout = execution.memory_format(device, cell.recipe.precision)
    return {"train": network.to(memory_format=layout), "deployed": reparameterize(network).to(memory_format=layout)}


def build_calls(network: nn.Module, cell: CellSpec, execution: Execution) -> tuple[TrainingStep, Inference]:
    """A training step on a batch at LEARNING_RATE and an inference of one image, each on a copy of the network."""
    device = next(network.parameters()).device
    layout = execution.memory_format(device, cell.recipe.precision)
    images = _images(cell, "images").to(device).contiguous(memory_format=layout)
    labels = torch.arange(len(images), device=device) % cell.data.num_classes
    trained, evaluated = copy.deepcopy(network), copy.deepcopy(network)
    if execution.compile:
        trained.compile()
        evaluated.compile()
    step = TrainingStep(trained, replace(cell.recipe, lr=LEARNING_RATE), images, labels)
    return step, Inference(evaluated, cell.recipe, images[:1])


def _images(cell: CellSpec, *purpose: str | int) -> Tensor:
    """Random images (B, C, S, S) in the shape of the recipe and the data."""
    data = cell.data
    return noise((cell.recipe.batch_size, data.channels, data.image_size, data.image_size), cell.seed, *purpose)
