"""Blocks recorded during a training: their inputs, and the gradients of their branches' sums."""

import copy
import functools
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.spec import DataSpec
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.network import build_model
from mobileone_core.study.presets import preset_cell
from mobileone_core.training.optimizer import build_optimizer, learning_rate

HALF_UNIT = 2.0**-24  # what rounding an exact result to float32 may cost: no path is held to less
QUANTITIES = ("output", "to input", "to parameters", "running mean", "running variance")


@dataclass(frozen=True, eq=False)
class Recorded:
    """A block at some step of a training, what it was given (N, C, H, W) and the gradient of its branches' sum."""

    name: str
    step: int
    block: MobileOneBlock
    x: torch.Tensor
    to_sum: torch.Tensor


def train(watch, steps, *, variant="tiny", data=None, changes=None, seed=0, execution="branches"):
    """The losses of so many steps in float32, by the recipe of a study's default cell.

    watch(step, network, images, labels) is called before each.
    """
    spec = preset_cell(variant, data or DataSpec(), "digits", changes)
    recipe, losses = spec.recipe, []
    torch.manual_seed(seed)
    network = build_model(spec.model, spec.data.num_classes, execution).train()
    optimizer = build_optimizer(network, recipe)
    batches = open_loaders(spec.data, None, seed, LoaderOptions(recipe.batch_size, recipe.augmentation)).train
    for step in range(steps):
        epoch, index = divmod(step, len(batches))
        if index == 0:
            torch.manual_seed(epoch)
            batches.set_epoch(epoch, epoch / recipe.epochs)
            images_and_labels = iter(batches)
        images, labels = next(images_and_labels)
        watch(step, network, images, labels)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step / (recipe.epochs * len(batches)))
        loss = F.cross_entropy(network(images), labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def record_training(variant="tiny", data=None, changes=None, seed=0, steps=(0,)):
    """Every block at the steps named of a training by the branches."""
    recordings = []

    def watch(step, network, images, labels):
        if step in steps:
            recordings.extend(record_blocks(network, images, labels, step))

    train(watch, max(steps) + 1, variant=variant, data=data, changes=changes, seed=seed)
    return recordings


def record_blocks(network, images, labels, step):
    """Every block of a copy of the network in one forward and backward."""
    network = copy.deepcopy(network)
    blocks = {name: block for name, block in network.named_modules() if isinstance(block, MobileOneBlock)}
    before = {name: copy.deepcopy(block) for name, block in blocks.items()}
    inputs, gradients = {}, {}

    def take(name, block):
        block.register_forward_pre_hook(lambda _, given: inputs.update({name: given[0].detach().clone()}))
        block.attn.register_forward_pre_hook(lambda _, given: watch(name, given[0]))

    def watch(name, output):
        output.register_hook(lambda gradient: gradients.update({name: gradient.detach().clone()}))

    for name, block in blocks.items():
        take(name, block)
    F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
    return [Recorded(name, step, before[name], inputs[name], gradients[name]) for name in blocks]


def summed(recorded, execution, dtype=torch.float32, autocast=False):
    """One step of the block's branches alone, without what follows them: every quantity, in float64."""
    block = copy.deepcopy(recorded.block).to(dtype).train()
    block.attn, block.act, block.execution = nn.Identity(), nn.Identity(), execution
    x = recorded.x.to(dtype if not autocast else recorded.x.dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = block(x)
    output.backward(recorded.to_sum.to(output.dtype))
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    values = (
        output.detach(),
        x.grad,
        torch.cat([p.grad.flatten() for p in block.parameters()]),
        torch.stack([norm.running_mean for norm in norms]),
        torch.stack([norm.running_var for norm in norms]),
    )
    return dict(zip(QUANTITIES, (value.double() for value in values), strict=True))


def errors_by_path(recorded, autocast=False):
    """{path: {quantity: relative error against the branches in float64}}, in norms.

    Under autocast to bfloat16 a block is given bfloat16, as by the block before it and the one after it.
    """
    given, truth, branches = branches_and_truth(recorded, autocast)
    return {"branches": branches, "folded": relative_errors(summed(given, "folded", autocast=autocast), truth)}


@functools.cache
def branches_and_truth(recorded, autocast):
    """A block's inputs, its results by the branches in float64, and the branches' errors."""
    dtype = torch.bfloat16 if autocast else torch.float32
    given = replace(recorded, x=recorded.x.to(dtype), to_sum=recorded.to_sum.to(dtype))
    truth = summed(given, "branches", torch.float64)
    return given, truth, relative_errors(summed(given, "branches", autocast=autocast), truth)


def relative_errors(results, truth):
    return {name: float((value - truth[name]).norm() / truth[name].norm()) for name, value in results.items()}
