"""The command `mobileone evaluate`: everything is checked before a run is recorded."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torchmetrics import MetricCollection

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.data.epochs import BatchLoader
from mobileone_core.data.loaders import LoaderOptions, open_loaders, open_test
from mobileone_core.data.spec import DataSpec
from mobileone_core.files import sha256
from mobileone_core.model.network import MobileOne
from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.evaluation import EvaluationSetting, evaluation_table
from mobileone_core.study.environment import environment_tags
from mobileone_core.study.record.standalone import standalone_run
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate, read_network
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.task import build_task

SEED = 0  # of the validation split, if it is carved from the training images
INTERVAL = 30.0  # seconds between two lines if the output is no terminal


def evaluate_checkpoint(options: Evaluate) -> int:
    """Evaluate a checkpoint, record, print the table; return the exit status. Raises InputError."""
    data, spec = options.resolved()
    execution = Execution(options.device, options.threads or torch.get_num_threads(), options.channels_last)
    device = resolve_device(execution, options.precision)
    torch.set_num_threads(execution.threads)
    network = read_network(spec, data.num_classes, options.weights, options.form, which=options.which, say=print)
    task = build_task(CellSpec(spec, data, Recipe(label_smoothing=0.0)))
    setting = _setting(options, data, spec, network)
    measure = partial(evaluate, network, task, stage=setting.split, device=device, precision=options.precision)
    parts = {"model": asdict(spec), "data": asdict(data)}
    params = {f"{part}.{field}": value for part, values in parts.items() for field, value in values.items()}
    params["batch_size"] = options.batch_size
    interrupt = SignalGuard()
    with interrupt.installed(), contextlib.closing(_open(options, data, execution.threads, device)) as batches:
        name = f"{options.variant} {data.name} {options.weights.name}"
        tags = _tags(options, setting, execution)
        with standalone_run(options.storage.workspace, "evaluate", name, tags, params) as writing:
            with _progress(batches.plan.count, interrupt) as progress:
                metrics = measure(batches, layout=execution.memory_format, progress=progress)
            writing.log(metrics)
    print(f"\n{evaluation_table(setting, metrics)}")
    print(f"\nrun {writing.run_id}: {metrics['time/images_per_second']:.0f} images per second, decoding included")
    return COMPLETE


def _open(options: Evaluate, data: DataSpec, workers: int, device: torch.device) -> BatchLoader:
    crop, interpolation = options.images.crop, options.images.interpolation
    loading = LoaderOptions(
        options.batch_size, "none", device=device, workers=workers, crop=crop, interpolation=interpolation
    )
    if options.images.split == "test":
        return open_test(data, options.data_root, loading)
    return open_loaders(data, options.data_root, SEED, loading).val


def _setting(options: Evaluate, data: DataSpec, spec: ModelSpec, network: MobileOne) -> EvaluationSetting:
    preset = ModelSpec.preset(options.variant, in_channels=data.channels).fitted_to(data.image_size)
    return EvaluationSetting(
        variant=options.variant,
        is_preset=spec == preset,
        data=data.name,
        split=options.images.split,
        form="deployed" if network.deployed else "train",
        crop=options.crop,
        interpolation=options.images.interpolation,
        image_size=data.image_size,
    )


def _tags(options: Evaluate, setting: EvaluationSetting, execution: Execution) -> dict[str, str]:
    tags = {name: str(value) for name, value in asdict(setting).items() if name != "is_preset"}
    file = {"weights": options.weights.name, "sha256": sha256(options.weights)}
    return {**tags, **file, "precision": options.precision, **environment_tags(execution)}


@contextlib.contextmanager
def _progress(images: int, interrupt: SignalGuard) -> Iterator[Callable[[int, MetricCollection], None]]:
    """A function that shows images done and their top-1: a bar on a terminal, else a line every INTERVAL seconds."""
    console, last_line = Console(), time.monotonic()
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(f"0 of {images} images", total=images)

    def show(done: int, metrics: MetricCollection) -> None:
        nonlocal last_line
        interrupt.check()
        line = f"{done} of {images} images, top-1 {100 * float(metrics['top1'].compute()):.2f} %"
        bar.update(task, completed=done, description=line)
        if not console.is_terminal and time.monotonic() - last_line > INTERVAL:
            last_line = time.monotonic()
            console.print(Text(line), soft_wrap=True)

    if not console.is_terminal:
        console.print(f"{images} images to read")
    with bar:
        yield show
