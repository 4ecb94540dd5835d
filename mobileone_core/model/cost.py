"""Parameters and multiply-adds of a network, counted from its spec: no torch here."""

from dataclasses import dataclass
from itertools import chain

from mobileone_core.errors import require
from mobileone_core.model.context import Widths, activation_widths, squeeze_excite_widths
from mobileone_core.model.spec import BlockSpec, ModelSpec


@dataclass(frozen=True)
class FormCost:
    """params: trainable numbers; macs: multiply-adds of convolutions and linear layers for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: "FormCost") -> "FormCost":
        return FormCost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True)
class ModelCost:
    """The train form (with branches) and the deployed form (one convolution a block)."""

    train: FormCost
    deployed: FormCost


def model_cost(spec: ModelSpec | str, image_size: int = 224, num_classes: int = 1000) -> ModelCost:
    """Exact counts for a square image of image_size pixels, as fvcore and timm count: normalization, pooling
    and element-wise work are no multiply-adds. SE and the dynamic activations count with their layers.

    spec: or a variant's name. Raises InputError.
    """
    spec = ModelSpec.preset(spec) if isinstance(spec, str) else spec
    for name, value in (("image_size", image_size), ("num_classes", num_classes)):
        require(isinstance(value, int) and value >= 1, name, value, "an integer of 1 or more")
    head = _dense(spec.widths[-1], num_classes)
    train, deployed, size = head, head, image_size
    for block in (spec.stem(), *chain.from_iterable(spec.stages())):
        size = (size - 1) // block.stride + 1
        behind = _behind(block, spec.activation)
        train += _branches(block, size * size) + behind
        deployed += _conv(block, block.kernel_size, size * size) + FormCost(block.out_channels) + behind
    return ModelCost(train, deployed)


def _branches(block: BlockSpec, positions: int) -> FormCost:
    kernels = [block.kernel_size] * block.k + [1] * block.scale
    total = FormCost(2 * block.in_channels if block.skip else 0)
    for kernel_size in kernels:
        total += _conv(block, kernel_size, positions) + FormCost(2 * block.out_channels)
    return total


def _conv(block: BlockSpec, kernel_size: int, positions: int) -> FormCost:
    weights = block.out_channels * (block.in_channels // block.groups) * kernel_size**2
    return FormCost(weights, weights * positions)


def _behind(block: BlockSpec, activation: str) -> FormCost:
    total = _context(activation_widths(activation, block.out_channels))
    return total + _context(squeeze_excite_widths(block.out_channels)) if block.se else total


def _context(widths: Widths | None) -> FormCost:
    if widths is None:
        return FormCost()
    channels, hidden, outputs = widths
    return _dense(channels, hidden) + _dense(hidden, outputs)


def _dense(inputs: int, outputs: int) -> FormCost:
    return FormCost(inputs * outputs + outputs, inputs * outputs)
