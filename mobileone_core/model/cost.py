"""Parameters and multiply-adds of a network, counted from its spec."""

from dataclasses import dataclass
from itertools import chain
from math import prod

from mobileone_core.errors import require_integer
from mobileone_core.model.methods import block_branches
from mobileone_core.model.spec import BlockSpec, ModelSpec, activation_widths, squeeze_excite_widths


@dataclass(frozen=True)
class FormCost:
    """Trainable parameters, and multiply-adds (macs) of convolutions and linear layers for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: "FormCost") -> "FormCost":
        return FormCost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True)
class ModelCost:
    """The cost of the train form (with branches) and of the deployed form (one convolution per block)."""

    train: FormCost
    deployed: FormCost


def model_cost(spec: ModelSpec | str, image_size: int = 224, num_classes: int = 1000) -> ModelCost:
    """Count parameters and multiply-adds of a network exactly, without building it.

    Counts as fvcore and timm do: layers of SE and of dynamic activations count, normalization, pooling and
    element-wise operations do not.

    Args:
        spec: A ModelSpec or a variant's name.
        image_size: Pixels along one side of a square image.
        num_classes: Outputs of the classifier; 0 counts none.

    Raises InputError.

    >>> model_cost("s0").deployed.params
    2078504
    """
    spec = ModelSpec.preset(spec) if isinstance(spec, str) else spec
    image_size = require_integer("image_size", image_size)
    num_classes = require_integer("num_classes", num_classes, at_least=0)
    head = _dense(spec.widths[-1], num_classes)
    train, deployed, size = head, head, image_size
    for block in (spec.stem(), *chain.from_iterable(spec.stages())):
        before, size = size, (size - 1) // block.stride + 1
        after = _after_conv(block, spec.activation)
        train += _branches(block, before, size * size) + after
        weights = block.out_channels * (block.in_channels // block.groups) * block.kernel_size**2
        deployed += FormCost(weights + block.out_channels, weights * size * size) + after
    return ModelCost(train, deployed)


def _branches(block: BlockSpec, size: int, positions: int) -> FormCost:
    """All branches on images of size x size pixels; norms have two parameters per channel."""
    total = FormCost()
    for branch in block_branches(block).values():
        border = 0 if branch.is_one_kernel else 2 * block.dilation * (block.kernel_size // 2)
        at = (size + border) ** 2  # zeros are padded before the first of several norms
        for layer in branch.layers.values():
            at = positions if layer.kernel else at
            area = prod(layer.kernel or (1, 1))
            weights = layer.outputs * (layer.inputs // block.groups) * area if layer.kind == "conv" else 0
            total += FormCost(weights + 2 * layer.outputs * (layer.kind == "bn"), weights * at)
    return total


def _after_conv(block: BlockSpec, activation: str) -> FormCost:
    """The small networks inside a dynamic activation and SE."""
    widths = (activation_widths(activation, block.out_channels), squeeze_excite_widths(block.out_channels))
    inside = filter(None, widths if block.se else widths[:1])
    return sum((_dense(channels, hidden) + _dense(hidden, outputs) for channels, hidden, outputs in inside), FormCost())


def _dense(inputs: int, outputs: int) -> FormCost:
    return FormCost(inputs * outputs + outputs, inputs * outputs)
