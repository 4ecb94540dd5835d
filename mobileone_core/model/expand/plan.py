"""Plans the expansion of every convolution of a network: the branches it takes, or the reason why it is left."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch
from itertools import chain
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from mobileone_core.errors import require, require_integer
from mobileone_core.fields import check_options
from mobileone_core.model.expand.block import ExpandedConv2d, can_twin, geometry_of, is_timms
from mobileone_core.model.expand.flow import DataFlow, data_flow
from mobileone_core.model.methods import method_branches
from mobileone_core.model.spec import MAX_K, BlockExecution, BlockMethod

WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel"}  # they listed the parameters already
Where = Literal["auto"] | Sequence[str] | Callable[[str, nn.Conv2d], bool]


class Reason(Enum):
    """Why a convolution is left as it is; there are no others."""

    DIMENSIONS = "it is 1-D, 3-D, transposed, not yet initialized, or its weight has another shape than it says"
    FORWARD = "its class computes more than a convolution"
    PARAMETRIZED = "its weight is computed from others, as by weight norm or pruning"
    UNUSED = "the forward pass does not call it"
    BYPASSED = "it, its norm or their parameters are also held or read by other code"
    NO_NORM = "no batch norm reads its output"
    OUTPUT_SHARED = "its output is read by more than its norm"
    NORM_SHARED = "its norm also normalizes something else"
    NORMS = "it is called several times and followed by different layers"
    NORM_KIND = "its norm is no batch norm with running statistics that scales and shifts"
    HOOKS = "it or its norm has hooks, which would not run"
    FROZEN = "its weight is frozen, or its norm alone is in evaluation mode"
    WEIGHTS_SHARED = "another module has the same parameters or statistics"
    EXCLUDED = "where excludes it"
    NOTHING_TO_ADD = "the method has no second branch for its shape"


@dataclass(frozen=True)
class PlannedConv:
    """A convolution of the plan: its name, its norm's, and its branches, or the reason why it is left."""

    name: str
    conv: str
    norm: str
    branches: tuple[str, ...]
    reason: Reason | None

    def __str__(self) -> str:
        what = f"left: {self.reason.value}" if self.reason else f"taken with {self.norm}: {', '.join(self.branches)}"
        return f"{self.name} ({self.conv}) {what}"


@dataclass(frozen=True)
class ExpansionPlan:
    """Every convolution of a network in the order of its modules; print it to read it."""

    convs: tuple[PlannedConv, ...]
    method: str

    @property
    def taken(self) -> tuple[PlannedConv, ...]:
        """The convolutions that expand replaces."""
        return tuple(conv for conv in self.convs if conv.reason is None)

    @property
    def left(self) -> tuple[PlannedConv, ...]:
        """The convolutions that stay as they are, with the reason."""
        return tuple(conv for conv in self.convs if conv.reason is not None)

    def __str__(self) -> str:
        note = ", trained by explicit branches: norms stand between convolutions" if self.method == "dbb" else ""
        head = f"{self.method}: {len(self.taken)} of {len(self.convs)} convolutions taken{note}"
        return "\n".join([head, *map(str, self.convs)])


@dataclass(frozen=True)
class ExpandOptions:
    """The arguments of expand, checked. Raises InputError."""

    k: int = 4
    scale: bool = True
    skip: bool | str = "auto"
    where: Where = "auto"
    method: BlockMethod = "mobileone"
    execution: BlockExecution = "auto"

    def __post_init__(self) -> None:
        check_options(self)
        require_integer("k", self.k, at_most=MAX_K)
        require(self.skip in ("auto", True, False), "skip", self.skip, "'auto' (where shapes allow), True or False")
        patterns = isinstance(self.where, list | tuple) and self.where and all(isinstance(x, str) for x in self.where)
        fits = self.where == "auto" or callable(self.where) or bool(patterns)
        require(fits, "where", self.where, "'auto', patterns of names such as ['layer4.*'], or a function")

    def reason(self, name: str, conv: nn.Conv2d) -> Reason | None:
        """Why these options leave a convolution that could be taken, or None."""
        matches = callable(self.where) or self.where == "auto" or any(fnmatch(name, item) for item in self.where)
        if not matches or (callable(self.where) and not self.where(name, conv)):
            return Reason.EXCLUDED
        return None if self.method == "expandnet" or len(self.branch_names(conv)) > 1 else Reason.NOTHING_TO_ADD

    def branch_names(self, conv: nn.Conv2d) -> tuple[str, ...]:
        """Names of the branches that a convolution gets."""
        return tuple(method_branches(self.method, geometry_of(conv), self.k, self.scale, bool(self.skip)))


def plan_network(
    model: nn.Module, options: ExpandOptions, inputs: Sequence[Any] | None
) -> tuple[ExpansionPlan, list[tuple[nn.Conv2d, nn.Module]], str]:
    """Plan a network; also return the convolutions that are taken, with their norms, and DataFlow.graphs.

    Raises InputError.
    """
    require(isinstance(model, nn.Module), "model", type(model).__name__, "a torch.nn.Module")
    names = {module: name for name, module in model.named_modules()}
    require(not any(isinstance(part, ExpandedConv2d) for part in names), "model", "expanded", "expand it once")
    is_wrapped = any(type(part).__name__ in WRAPPERS for part in names)
    require(not is_wrapped, "model", type(model).__name__, "a network before it is wrapped: expand, then wrap")
    flow = data_flow(model, inputs)
    owners = Counter(id(value) for module in names for value in chain(module.parameters(False), module.buffers(False)))
    planned, taken = [], []
    convs: list[Any] = [module for module in names if isinstance(module, _ConvNd)]
    for pattern in [] if callable(options.where) or options.where == "auto" else options.where:
        matches = any(fnmatch(names[conv], pattern) for conv in convs)
        require(matches, "where", pattern, "a pattern that matches the name of a convolution")
    for conv in convs:
        name, readers = names[conv], chain.from_iterable(readers for _, readers in flow.calls.get(conv, []))
        norms = {reader for reader in readers if isinstance(reader, _NormBase)}
        reason = next((reason for reason, holds in _reasons(conv, norms, flow, owners) if holds), None)
        reason = reason or options.reason(name, conv)
        size = "x".join(map(str, conv.kernel_size))
        text = f"{type(conv).__name__} {conv.in_channels} to {conv.out_channels}, {size}"
        norm: Any = next(iter(norms), None)
        branches = () if reason else options.branch_names(conv)
        planned.append(PlannedConv(name, text, "" if reason else names[norm], branches, reason))
        taken += [] if reason else [(conv, norm)]
    return ExpansionPlan(tuple(planned), options.method), taken, flow.graphs


def _inherits(module: Any, kind: type[nn.Module], *methods: str) -> bool:
    """Whether methods of a module are those of a class, which neither a subclass nor the module itself overrides."""
    return all(getattr(getattr(module, name), "__func__", None) is getattr(kind, name) for name in methods)


def _reasons(conv: Any, norms: set[Any], flow: DataFlow, owners: Counter[int]) -> Iterator[tuple[Reason, bool]]:
    """Yield the reasons to leave a convolution and whether they hold, each where no earlier one does."""
    calls = flow.calls.get(conv, [])
    yield Reason.DIMENSIONS, not isinstance(conv, nn.Conv2d) or any(map(is_lazy, conv.parameters(False)))
    is_plain = is_timms("Conv2dSame", conv) or _inherits(conv, nn.Conv2d, "forward", "_conv_forward")
    yield Reason.FORWARD, not is_plain
    yield Reason.PARAMETRIZED, "weight" not in conv._parameters or parametrize.is_parametrized(conv)
    shape = (conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size)
    yield Reason.DIMENSIONS, conv.weight.shape != shape
    yield Reason.UNUSED, not calls
    yield Reason.NO_NORM, not norms
    yield Reason.OUTPUT_SHARED, any(len(readers) > 1 for _, readers in calls)
    yield Reason.NORMS, any(set(readers) != norms for _, readers in calls) or len(norms) > 1
    (norm,) = norms
    yield Reason.NORM_SHARED, any(source is not conv for source, _ in flow.calls[norm])
    yield Reason.NORM_KIND, not can_twin(norm) or parametrize.is_parametrized(norm)
    yield Reason.BYPASSED, bool({conv, norm} & flow.bypassed)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    yield Reason.HOOKS, any(getattr(module, name) for module in (conv, norm) for name in hooks)
    is_frozen = not conv.weight.requires_grad or (conv.training and not norm.training)
    yield Reason.FROZEN, is_frozen or not _inherits(norm, nn.Module, "train")
    values = [*conv.parameters(), *norm.parameters(recurse=False), *norm.buffers(recurse=False)]
    yield Reason.WEIGHTS_SHARED, any(owners[id(value)] > 1 for value in values)
