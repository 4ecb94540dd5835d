"""One evaluation from its options to its table: everything is checked before a run is recorded."""

import contextlib
import time
from dataclasses import asdict

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torchmetrics import MetricCollection

from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.data.loaders import BatchLoader, LoaderOptions, open_loaders, open_test
from mobileone_core.data.spec import DataSpec
from mobileone_core.files import sha256
from mobileone_core.model.network import MobileOne
from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.evaluation import Setting, evaluation_table
from mobileone_core.study.environment import environment_tags
from mobileone_core.study.record.standalone import one_run
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate, read_network
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.task import build_task

SEED = 0  # of the validation that is carved where a set has none
OFTEN = 30.0  # seconds between two lines where output is no terminal


def run(asked: Evaluate, data: DataSpec, spec: ModelSpec, workspace: Workspace) -> None:
    """Evaluate, record, print the table; InputError for what cannot be used."""
    execution = Execution(asked.device, asked.threads or torch.get_num_threads(), asked.channels_last)
    device = resolve_device(execution, asked.precision)
    torch.set_num_threads(execution.threads)
    network = read_network(spec, data.num_classes, asked.weights, asked.form)
    task = build_task(CellSpec(spec, data, Recipe(label_smoothing=0.0)))
    setting = _setting(asked, data, spec, network)
    interrupt = SignalGuard()
    options = _options(asked, execution, device)
    with interrupt.installed(), contextlib.closing(_open(asked, data, options)) as batches:
        name = f"{asked.variant} {data.name} {asked.weights.name}"
        said = (name, _tags(asked, setting, execution), _params(asked, data, spec))
        with one_run(workspace, "evaluate", *said) as writing:
            with Display(batches.plan.count, interrupt) as display:
                metrics = evaluate(
                    network,
                    task,
                    batches,
                    stage=setting.split,
                    device=device,
                    precision=asked.precision,
                    layout=torch.channels_last if execution.channels_last else torch.contiguous_format,
                    progress=display,
                )
            writing.log(metrics)
    print(f"\n{evaluation_table(setting, metrics)}")
    print(f"\nrun {writing.run_id}: {metrics['time/images_per_second']:.0f} images a second, decoding included")


def _open(asked: Evaluate, data: DataSpec, options: LoaderOptions) -> BatchLoader:
    if asked.images.split == "test":
        return open_test(data, asked.data_root, options)
    return open_loaders(data, asked.data_root, SEED, options).val


def _options(asked: Evaluate, execution: Execution, device: torch.device) -> LoaderOptions:
    return LoaderOptions(
        asked.batch_size,
        "none",
        device=device,
        workers=execution.threads,
        crop=asked.images.crop,
        interpolation=asked.images.interpolation,
    )


def _setting(asked: Evaluate, data: DataSpec, spec: ModelSpec, network: MobileOne) -> Setting:
    preset = ModelSpec.preset(asked.variant, in_channels=data.channels).fitted_to(data.image_size)
    return Setting(
        variant=asked.variant,
        is_preset=spec == preset,
        data=data.name,
        split=asked.images.split,
        form="deployed" if network.deployed else "train",
        crop=asked.crop,
        interpolation=asked.images.interpolation,
        image_size=data.image_size,
    )


def _tags(asked: Evaluate, setting: Setting, execution: Execution) -> dict[str, str]:
    told = {name: str(value) for name, value in asdict(setting).items() if name != "is_preset"}
    file = {"weights": asked.weights.name, "sha256": sha256(asked.weights)}
    return {**told, **file, "precision": asked.precision, **environment_tags(execution)}


def _params(asked: Evaluate, data: DataSpec, spec: ModelSpec) -> dict[str, object]:
    network = {f"model.{name}": value for name, value in asdict(spec).items()}
    return {
        **network,
        **{f"data.{name}": value for name, value in asdict(data).items()},
        "batch_size": asked.batch_size,
    }


class Display(contextlib.AbstractContextManager["Display"]):
    """Images done and the top-1 so far: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, images: int, interrupt: SignalGuard, console: Console | None = None) -> None:
        self.images, self.interrupt = images, interrupt
        self.console = console or Console()
        columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(f"0 of {images} images", total=images)
        self.told = time.monotonic()

    def __call__(self, images: int, metrics: MetricCollection) -> None:
        """Called after each batch; raises the interrupt that Python dropped."""
        self.interrupt.check()
        line = f"{images} of {self.images} images, top-1 {100 * float(metrics['top1'].compute()):.2f} %"
        self.bar.update(self.task, completed=images, description=line)
        if not self.console.is_terminal and time.monotonic() - self.told > OFTEN:
            self.told = time.monotonic()
            self.say(line)

    def __enter__(self) -> "Display":
        if not self.console.is_terminal:
            self.say(f"{self.images} images to read")
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """One line, at once."""
        self.console.print(Text(line), soft_wrap=True)
