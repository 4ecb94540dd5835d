"""Whole cells in float64 against a loop written by hand: every way to train, alone and all together."""

import math
from dataclasses import replace

import pytest
import torch
from pytorch_lightning import Trainer
from safetensors.torch import save_file
from torch.nn import functional as F

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.seeding import derive_seed
from mobileone_core.model.network import build_model
from mobileone_core.training.cell import teacher_model
from mobileone_core.training.distillation import load_teachers
from mobileone_core.training.recipe import Phase, Recipe, Teacher, weights_digest

BASE = Recipe(
    epochs=2,
    batch_size=256,
    weight_decay_end=None,
    label_smoothing=0.0,
    ema_decay=0.0,
    augmentation="none",
)
PHASES = (Phase(0.5, 12, 0.0), Phase(1.0, 16, 0.0))
FEATURES = {
    "momentum": {"momentum": 0.8},
    "no momentum": {"momentum": 0.0},
    "nesterov": {"nesterov": True},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "momentum": 0.8, "weight_decay": 0.5},
    "weight decay": {"weight_decay": 0.3, "weight_decay_end": 0.1},
    "everything decays": {"weight_decay": 0.3, "decay_norm_and_bias": True},
    "warm-up": {"warmup_epochs": 0.75},
    "label smoothing": {"label_smoothing": 0.2},
    "average": {"ema_decay": 0.7},
    "clipping": {"clip_norm": 0.1},
    "phases": {"phases": PHASES},
    "one teacher": {"teachers": 1},
    "a teacher in every step": {"teachers": 1, "augmentation": "crop"},
    "two teachers": {"teachers": 2, "temperature": 2.0, "hard_label_weight": 0.3},
    "soft labels alone": {"teachers": 1, "temperature": 1.0, "hard_label_weight": 0.0},
}
TOGETHER = {
    **{name: value for feature in FEATURES.values() for name, value in feature.items()},
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "teachers": 2, "temperature": 3.0},
    **{"hard_label_weight": 0.4, "clip_norm": 0.1, "augmentation": "crop", "decay_norm_and_bias": False},
}
# BN takes out the size of a 1x1 kernel on one channel: its gradient is rounding, and Adam divides rounding by rounding.
INDIFFERENT = ".conv_scale."
CASES = {**FEATURES, "all together": TOGETHER}


@pytest.fixture
def teacher_files(cell, tmp_path):
    """Two teachers with statistics that are not fresh, and their files: one trained first, one from a checkpoint."""

    def write(count):
        files = {}
        for index, variant in enumerate(["tiny", "small"][:count]):
            torch.manual_seed(index)
            network = build_model(teacher_model(cell, Teacher(variant)), 10)
            for _ in range(3):
                network(torch.randn(32, 1, 16, 16))
            path = tmp_path / f"{variant}.safetensors"
            save_file(network.state_dict(), path)
            files[Teacher(variant, weights_digest(path) if index else "")] = path
        return files

    return write


@pytest.mark.quick_cases("momentum", "weight decay", "average", "one teacher", "all together")
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_a_cell_equals_a_loop_by_hand(  # noqa: PLR0917
    cell, train, teacher_files, tmp_path, monkeypatch, changes
):
    monkeypatch.setattr(
        "mobileone_core.training.run.Trainer", lambda **options: Trainer(**{**options, "precision": "64-true"})
    )
    files = teacher_files(changes.get("teachers", 0))
    recipe = replace(BASE, **{**changes, "teachers": tuple(files)})
    spec = replace(cell, recipe=recipe)
    result = train(spec=spec, files=files)
    state = torch.load(tmp_path / "cell" / "last.ckpt", weights_only=True)["state_dict"]
    network, average, loss = by_hand(spec, files)
    assert result.metrics["train/loss"] == pytest.approx(loss, rel=1e-12)
    prefixes = {"network.": network, "averaged.module.": average if recipe.ema_decay else {}}
    expected = {prefix + name: value for prefix, values in prefixes.items() for name, value in values.items()}
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype in (torch.float64, torch.int64)
        rounding = recipe.optimizer == "adamw" and INDIFFERENT in name
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-9 if rounding else 1e-12)


def by_hand(spec, files):
    """The trained weights and their average, buffers included, and the last epoch's mean loss, in float64."""
    recipe, teachers = spec.recipe, load_teachers(spec, files)
    torch.manual_seed(derive_seed(spec.seed, "init"))
    network = build_model(spec.model, 10).double().train()
    parameters, slots = list(network.parameters()), {}
    average = {name: value.clone() for name, value in network.state_dict().items()}
    loader = open_loaders(spec.data, None, spec.seed, LoaderOptions(recipe.batch_size, recipe.augmentation)).train
    for epoch in range(recipe.epochs):
        loader.set_epoch(epoch, 0.0)
        losses = []
        for step, (images, labels) in enumerate(loader):
            progress = (epoch * len(loader) + step) / (recipe.epochs * len(loader))
            seen = at_size(images, 12 if recipe.phases and epoch == 0 else 16).double()
            loss = loss_by_hand(recipe, network(seen), labels, teachers, seen)
            losses.append(loss.item())
            gradients = clipped(torch.autograd.grad(loss, parameters), recipe.clip_norm)
            for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                decays = parameter.ndim > 1 or recipe.decay_norm_and_bias
                rate, decay = rate_by_hand(recipe, progress), decay_by_hand(recipe, progress) if decays else 0.0
                update = adamw if recipe.optimizer == "adamw" else sgd
                slot = slots.setdefault(index, {})
                with torch.no_grad():
                    parameter.copy_(update(recipe, parameter, gradient, slot, rate=rate, decay=decay))
            for name, value in network.state_dict().items():
                kept = recipe.ema_decay * average[name] + (1 - recipe.ema_decay) * value
                average[name] = kept if value.is_floating_point() else value.clone()
    return network.state_dict(), average, sum(losses) / len(losses)


def at_size(images, size):
    """Bilinear with antialiasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def loss_by_hand(recipe, logits, labels, teachers, images):
    smoothing, temperature = recipe.label_smoothing, recipe.temperature
    target = torch.full_like(logits, smoothing / 10)
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    hard = -(target * log_softmax(logits)).sum() / len(labels)
    if teachers is None:
        return hard
    with torch.no_grad():
        outputs = [network.double()(images) for network in teachers.networks]
        soft = sum(log_softmax(output / temperature).exp() for output in outputs) / len(outputs)
    kl = (soft * (soft.log() - log_softmax(logits / temperature))).sum() / len(labels)
    return recipe.hard_label_weight * hard + (1 - recipe.hard_label_weight) * temperature**2 * kl


def log_softmax(logits):
    return logits - logits.logsumexp(1, keepdim=True)


def clipped(gradients, limit):
    """Scaled down to a norm of limit; PyTorch adds 1e-6 to the norm that it divides by."""
    norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients))
    assert not limit or norm > limit
    factor = min(1.0, limit / (norm + 1e-6)) if limit else 1.0
    return [gradient * factor for gradient in gradients]


def rate_by_hand(recipe, progress):
    warm = recipe.warmup_epochs / recipe.epochs
    if progress < warm:
        return recipe.lr * progress / warm
    return recipe.lr * math.cos(math.pi / 2 * (progress - warm) / (1 - warm)) ** 2


def decay_by_hand(recipe, progress):
    first, last = recipe.weight_decay, recipe.weight_decay_end
    return first if last is None else last + (first - last) * math.cos(math.pi / 2 * progress) ** 2


def sgd(recipe, parameter, gradient, slot, *, rate, decay):
    """The velocity starts at the first gradient, as PyTorch's does."""
    gradient = gradient + decay * parameter
    slot["velocity"] = recipe.momentum * slot["velocity"] + gradient if slot else gradient
    step = gradient + recipe.momentum * slot["velocity"] if recipe.nesterov else slot["velocity"]
    return parameter - rate * step


def adamw(recipe, parameter, gradient, slot, *, rate, decay):
    """Decoupled weight decay (Loshchilov and Hutter, 2019), betas (momentum, 0.999), epsilon 1e-8."""
    first, second = recipe.momentum, 0.999
    slot["count"] = slot.get("count", 0) + 1
    slot["mean"] = first * slot.get("mean", 0.0) + (1 - first) * gradient
    slot["square"] = second * slot.get("square", 0.0) + (1 - second) * gradient**2
    mean, square = slot["mean"] / (1 - first ** slot["count"]), slot["square"] / (1 - second ** slot["count"])
    return parameter * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8)
