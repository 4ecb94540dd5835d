"""One cell in, its metrics and final weights out; after each epoch a report and a checkpoint to resume from."""

import contextlib
import io
import logging
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import save as packed
from torch import nn

from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions, Loaders
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError, require
from mobileone_core.files import write_whole
from mobileone_core.model.network import set_sync_batchnorm
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.corrupted import corrupted_accuracies
from mobileone_core.training.distillation import Teachers, load_teachers
from mobileone_core.training.distributed import other_ranks
from mobileone_core.training.execution import Execution, resolve_device, resolve_precision
from mobileone_core.training.fine_tuning import freeze, load_initial
from mobileone_core.training.model_card import ModelCard, model_card
from mobileone_core.training.module import CellModule, EpochBatches
from mobileone_core.training.observer import CellResult, EpochRecord, NullObserver, Observer
from mobileone_core.training.quantized import quantize_cell
from mobileone_core.training.recipe import Recipe, Teacher
from mobileone_core.training.tasks.task import Task, build_task

# What Lightning leaves out; benchmark would select kernels by stopwatch: not the same ones twice.
OFF = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "benchmark")


class EpochRecorder(Callback):
    """Collects an EpochRecord after each epoch's validation, reports it, then writes the checkpoint, in this order.

    If the observer raises, the checkpoint of the previous epoch stays. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, observer: Observer, history: Sequence[EpochRecord]) -> None:
        self.path, self.observer, self.history = path, observer, list(history)
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: CellModule, *_: object) -> None:  # type: ignore[override]
        """Let the observer stop the cell after any batch."""
        epochs = trainer.current_epoch + trainer.fit_loop.batch_idx / module.steps
        images = trainer.global_step * module.recipe.mean_batch(module.task.spec.data.image_size)
        self.observer.batch_finished(epochs, int(images))

    def on_train_epoch_end(self, trainer: Trainer, module: CellModule) -> None:  # type: ignore[override]
        """Record and report the epoch, then write the checkpoint to a temporary file and rename it."""
        metrics = module.epoch_metrics() | {"time/epoch_seconds": time.perf_counter() - self._started}
        now = time.time_ns() // 1_000_000
        record = EpochRecord(trainer.current_epoch + 1, trainer.global_step, now, metrics)
        self.observer.epoch_finished(record)
        self.history.append(record)
        if self.path is not None:
            write_whole(self.path, trainer.save_checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Add the history as plain data, which weights-only loading accepts."""
        checkpoint["history"] = [asdict(record) for record in self.history]


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint where it belongs; Lightning's goes through TMPDIR, where a killed process leaves it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:  # noqa: ARG002
        """Write the whole file; torch.save to a file would hide that a disk is full."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs that a checkpoint holds; executes no pickled code. Raises InputError if the file cannot be read."""
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return [EpochRecord(**record) for record in content["history"]]
    except Exception as error:  # a broken file raises any of a dozen, in words about pickles
        raise InputError(f"{path}: not a checkpoint of this version; delete it to start this cell afresh") from error


def train_cell(  # noqa: PLR0913
    spec: CellSpec,
    *,
    execution: Execution,
    data_root: Path | None,
    directory: Path,
    observer: Observer,
    teachers: Mapping[Teacher, Path] = MappingProxyType({}),
    init: Path | None = None,
    trained: Path | None = None,
) -> CellResult:
    """Train a cell, resuming from directory/last.ckpt if it exists, and test its final weights once.

    Writes directory/weights.safetensors, and weights_raw.safetensors if the recipe averages weights; deleting last.ckpt
    is left to the caller.

    Args:
        spec, execution: what to train, and how it runs.
        data_root: directory of the data set; None for embedded data.
        directory: where checkpoint and weights are written.
        observer: receives every epoch and may stop the cell.
        teachers: weight file of each of the recipe's teachers; for one trained first its weights.safetensors.
        init: the weight file that the recipe's init identifies.
        trained: of a cell with quantization, the weight file of its cell float32.

    Returns:
        Final metrics (accuracies are fractions, times seconds) and the files of the weights.

    Raises:
        InputError: a device, data, a teacher or a checkpoint cannot be used.
        TrainingFailed: a loss is not finite; the observer's errors come through.
        ChildProcessError: another process of the cell died.
    """
    if trained is not None:
        return quantize_cell(spec, trained, execution, data_root, directory)
    device = resolve_device(execution, spec.recipe.precision)
    allowed = f"a multiple of processes, which is {execution.processes}"
    require(spec.recipe.batch_size % execution.processes == 0, "batch_size", spec.recipe.batch_size, allowed)
    path = directory / "last.ckpt"
    history = read_history(path) if path.exists() else []
    if history:
        observer.resumed(history)
    directory.mkdir(parents=True, exist_ok=True)
    card = model_card(spec, data_root)  # opening the data checks that they are those that were planned
    job = CellJob(spec, execution, data_root, directory, path if history else None, dict(teachers), init)
    recorder = EpochRecorder(path, observer, history)
    with other_ranks(execution.processes, device, directory, train_rank, (job,)):
        module = train_rank(0, device, job, recorder)
    return _finished(module, job, card, recorder.history)


def _finished(module: CellModule, job: "CellJob", card: ModelCard, history: Sequence[EpochRecord]) -> CellResult:
    """The cell's result; writes its final weights, the raw ones if those are averaged, and what shows mistakes."""

    def save(name: str, network: nn.Module) -> Path:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        write_whole(job.directory / name, lambda temporary: temporary.write_bytes(packed(state, card.metadata())))
        return job.directory / name

    raw = None if module.averaged is None else save("weights_raw.safetensors", module.network)
    weights = save("weights.safetensors", module.final)
    mistakes = module.mistakes if job.execution.processes == 1 else None  # each process tests a part
    pictures = mistakes.save(job.directory, card.class_names) if mistakes else ()
    trained = {name: value for name, value in history[-1].metrics.items() if name.startswith(("train/loss", "val/"))}
    seconds = sum(record.metrics["time/epoch_seconds"] for record in history)  # of all attempts together
    metrics = {**trained, **module.results, "time/train_seconds": seconds}
    return CellResult(metrics, weights, card.content(), raw, pictures)


@dataclass(frozen=True)
class CellJob:
    """Arguments that all processes of a cell share; checkpoint is the file to resume from."""

    spec: CellSpec
    execution: Execution
    data_root: Path | None
    directory: Path
    checkpoint: Path | None
    teachers: Mapping[Teacher, Path]
    init: Path | None = None


def train_rank(rank: int, device: torch.device, job: CellJob, recorder: EpochRecorder | None = None) -> CellModule:
    """One process's part of training and testing a cell: data, network, fit, test; without a recorder in silence."""
    spec, recipe, execution = job.spec, job.spec.recipe, job.execution
    torch.set_num_threads(execution.threads)
    torch.backends.cudnn.deterministic = True
    task, teachers = build_task(spec), load_teachers(spec, job.teachers)
    data = recipe.batch_size, recipe.augmentation, recipe.phases
    share, scales = Share(rank, execution.processes), recipe.scaled_batches(spec.data.image_size)
    options = LoaderOptions(*data, device, workers=execution.threads, share=share, scales=scales)
    with task.open_data(job.data_root, options) as loaders, quiet():
        module = _build_module(task, job, device, teachers)
        trainer = _build_trainer(recipe, device, recorder or EpochRecorder(None, NullObserver(), []), job.directory)
        batches = EpochBatches(loaders.train, module)
        trainer.fit(module, batches, loaders.val, ckpt_path=job.checkpoint, weights_only=True)
        trainer.test(module, loaders.test, verbose=False)
        module.results["train/steps"] = float(trainer.global_step)
        if recipe.corrupted_test:
            module.results |= corrupted_accuracies(module, loaders.test, device)
        if isinstance(loaders, Loaders):  # a task may open others, without labels
            module.results["test/majority"] = loaders.majority
    return module


def _build_module(task: Task, job: CellJob, device: torch.device, teachers: Teachers | None) -> CellModule:
    """The cell's module with the initial weights of its seed or file."""
    recipe, execution = task.spec.recipe, job.execution
    torch.manual_seed(derive_seed(task.spec.seed, "init"))
    network = set_sync_batchnorm(task.build_network(execution.blocks), execution.sync_batchnorm)
    if job.checkpoint is None:
        load_initial(network, recipe, job.init)
    freeze(network, recipe)
    module = CellModule(task, network, execution.memory_format(device, recipe.precision), teachers)
    if execution.compile:
        module.network.compile()
    return module


def _build_trainer(recipe: Recipe, device: torch.device, recorder: EpochRecorder, directory: Path) -> Trainer:
    """One process on one device, whatever cluster it runs in; only our own checkpoints, no logger, no display."""
    precision = resolve_precision(device, recipe.precision)
    off: dict[str, Any] = dict.fromkeys(OFF, False)
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1 if device.index is None else [device.index],
        precision="32-true" if precision == "32" else precision,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_norm or None,
        callbacks=[recorder],
        plugins=[LightningEnvironment(), CheckpointFile()],
        default_root_dir=directory,
        num_sanity_val_steps=0,
        **off,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's banners, tips and advice, and let Ctrl-C raise KeyboardInterrupt."""
    logger, handler = logging.getLogger("pytorch_lightning"), signal.getsignal(signal.SIGINT)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\.")
            yield
    except SystemExit as error:  # Lightning's answer to Ctrl-C, with the signal switched off
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from error
        raise
    finally:
        logger.setLevel(level)
