"""Soft labels: what teachers say of images, and how far a student is from them (Hinton et al., 2015)."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError, require
from mobileone_core.model.checkpoints import read_state
from mobileone_core.model.network import MobileOne
from mobileone_core.model.weights import load_weights
from mobileone_core.training.cell import CellSpec, teacher_model
from mobileone_core.training.recipe import Teacher, weights_digest


class Teachers:
    """Networks that only evaluate. No nn.Module: optimizer, state dict and checkpoint never meet their parameters."""

    def __init__(self, networks: Sequence[nn.Module], temperature: float) -> None:
        self.networks = [network.eval().requires_grad_(False) for network in networks]
        self.temperature = temperature

    def to(self, device: torch.device, dtype: torch.dtype, layout: torch.memory_format) -> None:
        """Move the networks to where and how the student computes."""
        for network in self.networks:
            network.to(device, dtype).to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the mean of the networks' softmax(logits / temperature), (B, classes)."""
        outputs = (F.softmax(widened(network(images)) / self.temperature, dim=1) for network in self.networks)
        return torch.stack(list(outputs)).mean(0)


def divergence(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """temperature ** 2 * KL(probabilities || softmax(logits / temperature)) of each image, (B,).

    The square keeps the gradient's size as the temperature rises (Hinton et al., section 2).
    """
    student = F.log_softmax(widened(logits) / temperature, dim=1)
    return temperature**2 * F.kl_div(student, probabilities, reduction="none").sum(1)


def widened(logits: Tensor) -> Tensor:
    """Half precision to float32; float64 stays."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def load_teachers(spec: CellSpec, files: Mapping[Teacher, Path]) -> Teachers | None:
    """The recipe's teachers with weights from files, on the CPU; None where it has none.

    A variant runs in deployed form; its file is in our own, the authors' or timm's layout. Raises InputError where
    a file is missing, another one than the recipe's, or does not fit; where timm is not installed.
    """
    networks = [_loaded(spec, teacher, files.get(teacher)) for teacher in spec.recipe.teachers]
    return Teachers(networks, spec.recipe.temperature) if networks else None


def _loaded(spec: CellSpec, teacher: Teacher, path: Path | None) -> nn.Module:
    if path is None or not path.is_file():
        raise InputError.of("teachers", teacher.network, f"it needs a file of weights, and {path or 'none'} is there")
    if teacher.weights:
        found = weights_digest(path)
        allowed = f"{path} is another file: its SHA-256 begins with {found}"
        require(found == teacher.weights, "teachers", teacher.weights, allowed)
    network = _filled(spec, teacher, path)
    recipe = spec.recipe
    for image_size in sorted({spec.data.image_size, *(phase.image_size for phase in recipe.phases)}):
        _try(network, teacher, (1, spec.data.channels, image_size, image_size), spec.data.num_classes)
    return network


def _filled(spec: CellSpec, teacher: Teacher, path: Path) -> nn.Module:
    """The teacher's network with the weights of a file."""
    classes, channels = spec.data.num_classes, spec.data.channels
    network = _foreign(teacher, classes, channels) if teacher.library else None
    try:
        if network is None:
            own = MobileOne(teacher_model(spec, teacher), classes, deployed=True)
            load_weights(own, path)
            return own
        _, state = read_state(path)
    except InputError as error:
        raise InputError(f"teachers: {teacher.network}: {error}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        shape = f"{classes} classes, {channels} channel{'s' if channels > 1 else ''}"
        raise InputError(f"teachers: {path} does not fit {teacher.network} with {shape}: {_brief(error)}") from error
    return network


def _foreign(teacher: Teacher, num_classes: int, channels: int) -> nn.Module:
    """A classifier of timm or torchvision without weights; nothing is downloaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of initial values, which the file's replace
        try:
            build = _timm if teacher.library == "timm" else _torchvision
            return build(teacher.name, num_classes, channels)
        except ImportError as error:
            raise InputError(f"teachers: {teacher.network} needs timm: pip install timm") from error
        except Exception as error:  # each of a thousand constructors refuses in its own way
            raise InputError(f"teachers: {teacher.network} cannot be built: {_brief(error)}") from error


def _timm(name: str, num_classes: int, channels: int) -> nn.Module:
    import timm

    require(timm.is_model(name), "name", name, "a network that timm lists")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)
    return network


def _torchvision(name: str, num_classes: int, channels: int) -> nn.Module:  # noqa: ARG001
    """With three input channels, as they all have."""
    from torchvision import models

    names = models.list_models(module=models)  # classifiers alone: the others download a backbone
    require(name in names, "name", name, "a classifier that torchvision lists")
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return network


@torch.no_grad()
def _try(network: nn.Module, teacher: Teacher, shape: tuple[int, ...], num_classes: int) -> None:
    """InputError unless images of a shape (1, C, H, W) give logits (1, num_classes)."""
    images = f"{shape[1]} x {shape[2]} x {shape[3]}"
    try:
        logits = network.eval()(torch.zeros(shape))
    except Exception as error:
        raise InputError(f"teachers: {teacher.network} cannot read images of {images}: {_brief(error)}") from error
    fits = isinstance(logits, Tensor) and logits.shape == (1, num_classes) and math.isfinite(logits.sum())
    allowed = f"its outputs for images of {images} are no finite logits of {num_classes} classes"
    require(fits, "teachers", teacher.network, allowed)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
