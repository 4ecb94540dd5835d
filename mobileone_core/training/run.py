"""One cell in, its metrics and final weights out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import require
from mobileone_core.files import write_whole
from mobileone_core.model.network import build_model, set_synchronized
from mobileone_core.training.batches import EpochBatches
from mobileone_core.training.callbacks import EpochRecorder, read_history
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.distillation import Teachers, load_teachers
from mobileone_core.training.distributed import other_ranks
from mobileone_core.training.ema import warn_if_horizon_is_long
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.module import ClassificationModule
from mobileone_core.training.observer import CellResult, EpochRecord, NullObserver, Observer
from mobileone_core.training.recipe import Teacher
from mobileone_core.training.trainer import build_trainer, quiet


def train_cell(  # noqa: PLR0913
    spec: CellSpec,
    *,
    execution: Execution,
    data_root: Path | None,
    directory: Path,
    observer: Observer,
    teachers: Mapping[Teacher, Path] = MappingProxyType({}),
) -> CellResult:
    """Train a cell, or go on with it from directory/last.ckpt, and test its final weights once.

    teachers: where the weights of each of the recipe's teachers lie; of one trained first its weights.safetensors.
    Writes directory/weights.safetensors and leaves last.ckpt to the caller. Accuracies are fractions, times seconds.
    Raises InputError for what cannot be used (a device, data, a teacher, a broken checkpoint), TrainingFailed for a
    loss that is not finite, ChildProcessError for another process of the cell that is gone, and whatever the observer
    raises.
    """
    device = resolve_device(execution, spec.recipe.precision)
    allowed = f"a multiple of processes, which is {execution.processes}"
    require(spec.recipe.batch_size % execution.processes == 0, "batch_size", spec.recipe.batch_size, allowed)
    path = directory / "last.ckpt"
    history = read_history(path) if path.exists() else []
    if history:
        observer.resumed(history)
    directory.mkdir(parents=True, exist_ok=True)
    work = Work(spec, execution, data_root, directory, path if history else None, dict(teachers))
    recorder = EpochRecorder(path, observer, history)
    with other_ranks(execution.processes, device, directory, _take_part, (work,)):
        module = _train(work, device, recorder)
    weights = directory / "weights.safetensors"
    write_whole(weights, lambda aside: save_file(_plain_state(module.final), aside))
    return CellResult(_final_metrics(recorder.history, module.results), weights)


@dataclass(frozen=True)
class Work:
    """What the processes of a cell do together; resume is the checkpoint to go on from."""

    spec: CellSpec
    execution: Execution
    data_root: Path | None
    directory: Path
    resume: Path | None
    teachers: Mapping[Teacher, Path]


def _take_part(rank: int, device: torch.device, work: Work) -> None:
    """The part of a process that neither writes nor tells anything."""
    _train(work, device, EpochRecorder(None, NullObserver(), []), rank)


def _train(work: Work, device: torch.device, recorder: EpochRecorder, rank: int = 0) -> ClassificationModule:
    """One process's part of training and testing a cell."""
    spec, execution = work.spec, work.execution
    torch.set_num_threads(execution.threads)
    torch.backends.cudnn.deterministic = True
    teaching = load_teachers(spec, work.teachers)
    options = _options(spec, execution, device, Share(rank, execution.processes))
    with open_loaders(spec.data, work.data_root, spec.seed, options) as loaders, quiet():
        module = _module(spec, execution, teaching, steps=len(loaders.train))
        trainer = build_trainer(spec.recipe, device, [recorder], work.directory)
        train = EpochBatches(loaders.train, module, spec.recipe.epochs)
        trainer.fit(module, train, loaders.val, ckpt_path=work.resume, weights_only=True)
        trainer.test(module, loaders.test, verbose=False)
    return module


def _options(spec: CellSpec, execution: Execution, device: torch.device, share: Share) -> LoaderOptions:
    recipe = spec.recipe
    return LoaderOptions(
        recipe.batch_size, recipe.augmentation, recipe.phases, device, workers=execution.threads, share=share
    )


def _module(spec: CellSpec, execution: Execution, teachers: Teachers | None, steps: int) -> ClassificationModule:
    """The cell's module with the weights of its seed; steps counts the batches of an epoch."""
    recipe = spec.recipe
    if recipe.ema_decay:
        warn_if_horizon_is_long(recipe.ema_decay, recipe.epochs * steps)
    torch.manual_seed(derive_seed(spec.seed, "init"))
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    network = build_model(spec.model, spec.data.num_classes, execution.blocks)
    module = ClassificationModule(
        set_synchronized(network, execution.sync_batchnorm),
        recipe,
        num_classes=spec.data.num_classes,
        steps=steps,
        seed=spec.seed,
        layout=layout,
        teachers=teachers,
    )
    if execution.compile:
        module.network.compile()
    return module


def _final_metrics(history: Sequence[EpochRecord], tested: Mapping[str, float]) -> dict[str, float]:
    """Loss and validation of the last epoch, the test, and the training time of all attempts together."""
    last = history[-1].metrics
    kept = {name: value for name, value in last.items() if name == "train/loss" or name.startswith("val/")}
    test = {name: value for name, value in tested.items() if name.startswith("test/")}
    seconds = sum(record.metrics["time/epoch_seconds"] for record in history)
    return {**kept, **test, "time/train_seconds": seconds}


def _plain_state(network: nn.Module) -> dict[str, Tensor]:
    """A state dict as safetensors takes it: contiguous, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
