"""The MobileOne network: a stem, stages of depthwise and pointwise blocks, a linear classifier."""

from typing import TypeVar

from torch import Tensor, nn

from mobileone_core.errors import InputError, require
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.spec import BLOCK_EXECUTIONS, BlockExecution, ModelSpec

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class ClassifierHead(nn.Module):
    """Global average pool and a linear layer: (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class MobileOne(nn.Module):
    """MobileOne (Vasu et al., CVPR 2023) as the authors' released code builds it.

    Where that differs from table 7 of the paper: the stem is one dense 3x3 block with a scale branch, no skip
    and k = spec.stem_k, and stages 4 and 5 of the table are one stage. Parameters start as PyTorch's layers do,
    again as released: convolutions and linear layers uniform within 1 / sqrt(fan_in), BN with weight 1 and
    bias 0. Before BN has seen data an evaluation-mode forward therefore grows from block to block.
    """

    def __init__(self, spec: ModelSpec, num_classes: int = 1000, deployed: bool = False) -> None:
        super().__init__()
        require(
            isinstance(num_classes, int) and num_classes >= 1, "num_classes", num_classes, "an integer of 1 or more"
        )
        self.spec = spec
        self.num_classes = num_classes
        self.stem = MobileOneBlock(spec.stem(), spec.activation, deployed)
        stages = ([MobileOneBlock(block, spec.activation, deployed) for block in stage] for stage in spec.stages())
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.head = ClassifierHead(spec.widths[-1], num_classes)

    @property
    def deployed(self) -> bool:
        """Whether this is the deployed form: one convolution a block."""
        return self.stem.deployed

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The stem's and every stage's output, (N, C_i, H / r_i, W / r_i): r = 2, 4, 8, 16, 32 for s0 to s4."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.forward_features(x)[-1])
        return logits


def build_model(spec: ModelSpec | str, num_classes: int = 1000, execution: BlockExecution = "branches") -> MobileOne:
    """A freshly initialized network in train form, from a spec or a variant's name (s0 to s4, tiny, small).

    execution is how it computes in training, as set_execution says. Raises InputError for an unknown variant, a
    num_classes below 1 or an unknown execution.
    """
    if isinstance(spec, str):
        spec = ModelSpec.preset(spec)
    if not isinstance(spec, ModelSpec):
        raise InputError.of("spec", spec, "a ModelSpec or a variant's name")
    return set_execution(MobileOne(spec, num_classes), execution)


def set_execution(module: AnyModule, execution: BlockExecution) -> AnyModule:
    """Set how every block of a network, or of any module, computes in training; returns the module.

    "branches" computes every branch; "folded" their sum as one convolution, with the same outputs, gradients and
    running statistics up to rounding (model/folded), in memory that hardly grows with k; "auto" chooses for each block
    and input the one that was measured to be faster (model/folded/rule.py). Parameters, buffers and state dict are the
    same for all. Where a BN does not follow the batch (evaluation mode, frozen statistics) and in the deployed form
    nothing changes. Hooks on the parts of a branch do not run where it is folded. Raises InputError for any other.
    """
    require(execution in BLOCK_EXECUTIONS, "execution", execution, f"one of {', '.join(BLOCK_EXECUTIONS)}")
    for part in module.modules():
        if isinstance(part, MobileOneBlock):
            part.execution = execution
    return module


def set_sync_batchnorm(module: AnyModule, sync_batchnorm: bool = True) -> AnyModule:
    """Let every block of a network, or of any module, normalize by the batch of all ranks; returns the module.

    The ranks are those of torch.distributed's default group, on GPUs or CPUs. Each folded block takes one all-reduce
    forward and one backward (model/folded/distributed.py); with "auto" all blocks are folded. Under DDP, ranks whose
    losses are means over equal shares of a batch train as one process does with the whole batch. Without a group, or
    with a single rank, nothing changes. Branches computed one by one cannot do it: their forward in training raises
    InputError where there are other ranks.
    """
    for part in module.modules():
        if isinstance(part, MobileOneBlock):
            part.sync_batchnorm = sync_batchnorm
    return module
