"""A measured training step: its network built, on its device, ready to be called."""

import torch
from torch import Tensor, nn

from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError, require
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.weights import export_weights
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.step_cell import StepCell
from mobileone_core.training.timed_calls import LEARNING_RATE, TrainingStep

SEED = 0  # of weights and images, which are random


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
