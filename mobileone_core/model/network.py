"""The MobileOne network: a stem, stages of depthwise and pointwise blocks, a linear classifier."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from mobileone_core.errors import require, require_choice, require_integer
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.spec import BLOCK_EXECUTIONS, BlockExecution, ModelSpec

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class ClassifierHead(nn.Module):
    """Global average pool and a linear layer: (N, C, H, W) -> (N, num_classes), or (N, C) if num_classes is 0."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class ExportNetwork(nn.Module):
    """A network that files can hold: images (N, spec.in_channels, S, S) to one tensor per name of output_names."""

    if TYPE_CHECKING:  # TorchScript would compile the classes of annotations
        spec: ModelSpec
        num_classes: int
        output_names: tuple[str, ...]
    else:
        output_names = ("logits",)


class MobileOne(ExportNetwork):
    """MobileOne (Vasu et al., CVPR 2023) as the authors' released code builds it.

    It differs from table 7 of the paper: the stem is one dense 3x3 block with a scale branch, no skip branch and
    k = spec.stem_k, and stages 4 and 5 of the table are one stage. Initialization is PyTorch's, as released. In
    evaluation mode, activations of an untrained network grow from block to block; calibrate prevents that.
    """

    __jit_unused_properties__ = ("deployed",)

    def __init__(self, spec: ModelSpec, num_classes: int = 1000, deployed: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = require_integer("num_classes", num_classes, at_least=0)
        self.stem = MobileOneBlock(spec.stem(), spec.activation, deployed)
        stages = ([MobileOneBlock(block, spec.activation, deployed) for block in stage] for stage in spec.stages())
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.head = ClassifierHead(spec.widths[-1], self.num_classes)

    @property
    def deployed(self) -> bool:
        """Whether this is the deployed form: one convolution per block."""
        return self.stem.deployed

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of stem and stages, (N, C_i, H / r_i, W / r_i), where r is spec.feature_strides."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def feature_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the last output at each stride by name: stride2 to stride32 for s0 to s4, less with output_stride.

        >>> model = build_model(ModelSpec.preset("s0", k=1, output_stride=16), num_classes=0)
        >>> {name: tuple(features.shape) for name, features in model.feature_maps(torch.zeros(2, 3, 64, 64)).items()}
        {'stride2': (2, 48, 32, 32), 'stride4': (2, 48, 16, 16), 'stride8': (2, 128, 8, 8), 'stride16': (2, 1024, 4, 4)}
        """
        outputs = zip(self.spec.feature_strides, self.forward_features(x), strict=True)
        return {f"stride{stride}": features for stride, features in outputs}

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes); without classes to pooled features (N, C)."""
        logits: Tensor = self.head(self.forward_features(x)[-1])
        return logits


def build_model(spec: ModelSpec | str, num_classes: int = 1000, execution: BlockExecution = "branches") -> MobileOne:
    """Build a freshly initialized network in train form.

    Args:
        spec: A ModelSpec or a variant's name (s0 to s4, micro, tiny, small).
        num_classes: Outputs of the classifier; 0 builds none: outputs are then the pooled features.
        execution: How blocks compute in training, see set_execution.

    Raises InputError.

    >>> model = build_model(ModelSpec.preset("tiny", k=2), num_classes=10)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    spec = ModelSpec.preset(spec) if isinstance(spec, str) else spec
    require(isinstance(spec, ModelSpec), "spec", spec, "a ModelSpec or a variant's name")
    return set_execution(MobileOne(spec, num_classes), execution)


def set_execution(module: AnyModule, execution: BlockExecution) -> AnyModule:
    """Set how every block of a network, or of any module, computes in training; return the module.

    "branches" computes every branch. "folded" computes their sum as one convolution with the same outputs, gradients
    and running statistics up to rounding (model/folded); its memory hardly grows with k. "auto" chooses per block and
    input what was measured to be faster (model/folded/rule.py). Parameters, buffers and state dict do not differ. The
    deployed form, evaluation mode and frozen BN are not affected. Hooks on parts of a folded branch do not run. Raises
    InputError for another value.
    """
    require_choice("execution", execution, BLOCK_EXECUTIONS)
    for part in module.modules():
        if isinstance(part, MobileOneBlock | ExpandedConv2d):
            part.execution = execution
    return module


def set_sync_batchnorm(module: AnyModule, sync_batchnorm: bool = True) -> AnyModule:
    """Let every block of a network, or of any module, normalize by the batch of all ranks; return the module.

    The ranks are those of torch.distributed's default group, on GPUs or CPUs. Each folded block takes one all-reduce
    forward and one backward (model/folded/distributed.py); with "auto" all blocks are folded. Under DDP, ranks whose
    losses are means over equal shares of a batch train as one process does with the whole batch. A block that computes
    its branches one by one raises InputError in training if there are other ranks.
    """
    for part in module.modules():
        if isinstance(part, MobileOneBlock | ExpandedConv2d):
            part.sync_batchnorm = sync_batchnorm
    return module


def outputs_of(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a network that returns one tensor or several, as a tuple."""
    outputs = network(images)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@torch.no_grad()
def calibrate(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Set every BatchNorm's running statistics to those of some batches of images, and switch to evaluation mode.

    With initial statistics activations explode or vanish from block to block; denormals are slow and distort timings.
    """
    update_bn(batches, network)
    network.eval()(batches[0])  # without BN nothing ran: images that do not fit raise here
