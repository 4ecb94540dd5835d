"""One cell in, its metrics and final weights out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.seeding import derive_seed
from mobileone_core.files import write_whole
from mobileone_core.model.network import build_model
from mobileone_core.training.averaging import warn_of_long_horizon
from mobileone_core.training.batches import EpochBatches
from mobileone_core.training.callbacks import EpochRecorder
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.checkpoint import read_history
from mobileone_core.training.device import build_trainer, quiet, resolve_device
from mobileone_core.training.execution import Execution
from mobileone_core.training.module import ClassificationModule
from mobileone_core.training.observer import CellResult, EpochRecord, Observer


def train_cell(
    spec: CellSpec, *, execution: Execution, data_root: Path | None, directory: Path, observer: Observer
) -> CellResult:
    """Train a cell, or go on with it from directory/last.ckpt, and test its final weights once.

    Writes directory/weights.safetensors and leaves last.ckpt to the caller. Accuracies are fractions, times seconds.
    Raises InputError for what cannot be used (a device, data, a broken checkpoint), TrainingFailed for a loss that
    is not finite, and whatever the observer raises.
    """
    device = resolve_device(execution, spec.recipe.precision)
    torch.set_num_threads(execution.threads)
    torch.backends.cudnn.deterministic = True
    path = directory / "last.ckpt"
    history = read_history(path) if path.exists() else []
    if history:
        observer.resumed(history)
    directory.mkdir(parents=True, exist_ok=True)
    with open_loaders(spec.data, data_root, spec.seed, _options(spec, execution, device)) as loaders, quiet():
        module = _module(spec, execution, steps=len(loaders.train))
        recorder = EpochRecorder(path, observer, history)
        trainer = build_trainer(spec.recipe, device, [recorder], directory)
        train = EpochBatches(loaders.train, module, spec.recipe.epochs)
        trainer.fit(module, train, loaders.val, ckpt_path=path if history else None, weights_only=True)
        trainer.test(module, loaders.test, verbose=False)
    weights = directory / "weights.safetensors"
    write_whole(weights, lambda aside: save_file(_plain_state(module.final), aside))
    return CellResult(_final_metrics(recorder.history, module.results), weights)


def _options(spec: CellSpec, execution: Execution, device: torch.device) -> LoaderOptions:
    recipe = spec.recipe
    return LoaderOptions(recipe.batch_size, recipe.augmentation, recipe.phases, device, workers=execution.threads)


def _module(spec: CellSpec, execution: Execution, steps: int) -> ClassificationModule:
    """The cell's module with the weights of its seed; steps counts the batches of an epoch."""
    recipe = spec.recipe
    if recipe.ema_decay:
        warn_of_long_horizon(recipe.ema_decay, recipe.epochs * steps)
    torch.manual_seed(derive_seed(spec.seed, "init"))
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    module = ClassificationModule(
        build_model(spec.model, spec.data.num_classes),
        recipe,
        num_classes=spec.data.num_classes,
        steps=steps,
        seed=spec.seed,
        layout=layout,
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
