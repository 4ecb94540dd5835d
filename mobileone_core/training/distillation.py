"""Distillation: the teachers' soft labels, and a student's divergence from them (Hinton et al., 2015)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError, reason_of, require
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.libraries import build_classifier
from mobileone_core.model.network import MobileOne
from mobileone_core.model.weights import load_weights
from mobileone_core.training.cell import CellSpec, teacher_model
from mobileone_core.training.named_networks import check_outputs
from mobileone_core.training.recipe import Teacher, weights_digest


class Teachers:
    """Networks in evaluation mode. Not an nn.Module, so that optimizer, state dict and checkpoint ignore them."""

    def __init__(self, networks: Sequence[nn.Module], temperature: float) -> None:
        self.networks = [network.eval().requires_grad_(False) for network in networks]
        self.temperature = temperature

    def to(self, device: torch.device, dtype: torch.dtype, layout: torch.memory_format) -> None:
        """Move the networks to the student's device, dtype and memory format."""
        for network in self.networks:
            network.to(device, dtype).to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the mean of the networks' softmax(logits / temperature), (B, classes)."""
        outputs = (F.softmax(at_least_float32(network(images)) / self.temperature, dim=1) for network in self.networks)
        return torch.stack(list(outputs)).mean(0)


def divergence(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """temperature ** 2 * KL(probabilities || softmax(logits / temperature)) of each image, (B,).

    The square keeps the gradient's size as the temperature rises (Hinton et al., section 2).
    """
    student = F.log_softmax(at_least_float32(logits) / temperature, dim=1)
    return temperature**2 * F.kl_div(student, probabilities, reduction="none").sum(1)


def load_teachers(spec: CellSpec, files: Mapping[Teacher, Path]) -> Teachers | None:
    """Load the recipe's teachers from their weight files onto the CPU; None if it has no teachers.

    A variant runs in deployed form; its file may be in our own, the authors' or timm's layout. Raises InputError if a
    file is missing, is not the recipe's, or does not fit; and if timm is needed but not installed.
    """
    networks = [_load(spec, teacher, files.get(teacher)) for teacher in spec.recipe.teachers]
    return Teachers(networks, spec.recipe.temperature) if networks else None


def _load(spec: CellSpec, teacher: Teacher, path: Path | None) -> nn.Module:
    if path is None or not path.is_file():
        allowed = f"it needs a file of weights, and {f'{path} does not exist' if path else 'none is given'}"
        raise InputError.of("teachers", teacher.network, allowed)
    if teacher.weights:
        digest = weights_digest(path)
        allowed = f"{path} is another file: its SHA-256 begins with {digest}"
        require(digest == teacher.weights, "teachers", teacher.weights, allowed)
    network = _load_weights(spec, teacher, path)
    for image_size in sorted({spec.data.image_size, *spec.recipe.sizes}):
        shape = 1, spec.data.channels, image_size, image_size
        check_outputs("teachers", teacher.network, network, shape, spec.data.num_classes)
    return network


def _load_weights(spec: CellSpec, teacher: Teacher, path: Path) -> nn.Module:
    classes, channels = spec.data.num_classes, spec.data.channels
    network = build_classifier("teachers", teacher.network, classes, channels) if teacher.library else None
    try:
        if network is None:
            variant = MobileOne(teacher_model(spec, teacher), classes, deployed=True)
            load_weights(variant, path)
            return variant
        name, *others = network.state_dict()
        inner = {other.removesuffix(name) for other in others if other.endswith(f".{name}")}  # layer1.0.conv1.weight
        first = "".join(f"(?<!{re.escape(prefix)})" for prefix in sorted(inner)) + re.escape(name)
        state = read_weights(path, first=f"{first}$").state
    except InputError as error:
        raise InputError(f"teachers: {teacher.network}: {error}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        shape = f"{classes} classes, {channels} channel{'s' if channels > 1 else ''}"
        reason = reason_of(error, 200)
        raise InputError(f"teachers: {path} does not fit {teacher.network} with {shape}: {reason}") from error
    return network
