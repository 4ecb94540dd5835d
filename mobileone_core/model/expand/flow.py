"""Finds the modules that read a convolution's output: by torch.fx, or recorded while the network runs once."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, product
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mobileone_core.errors import InputError, require
from mobileone_core.model.expand.block import AfterNorm, ExpandedConv2d

LAYERS, EXPANDED = (_ConvNd, _NormBase), (ExpandedConv2d, AfterNorm)
SIZES = (64, 224, 256, 299)  # pixels; images that are tried where no inputs are given


@dataclass
class DataFlow:
    """Every call of a convolution or norm, and the layers whose parameters are read by something else.

    A call is the layer that wrote its input, and all readers of its output; None is anything else. graphs is what
    torch.fx traced, as text; empty where it cannot.
    """

    calls: dict[nn.Module, list[tuple[nn.Module | None, list[nn.Module | None]]]]
    bypassed: set[nn.Module]
    graphs: str = ""


def data_flow(model: nn.Module, inputs: Sequence[Any] | None = None) -> DataFlow:
    """Trace a network in training and in evaluation; where torch.fx cannot, run it once in evaluation on inputs.

    The network is as before afterwards. inputs are the arguments of its forward; by default images are tried, alone.
    Raises InputError if the network does not trace and does not run.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return DataFlow({}, set())
    flow = None if "forward" in vars(model) else traced(model, inputs)  # torch.fx reads the class's forward
    flow = flow or _recorded(model, inputs)
    attributes = [value for part in model.modules() for name, value in vars(part).items() if name != "_modules"]
    flow.bypassed.update(value for value in tree_leaves(attributes) if isinstance(value, LAYERS))
    return flow


def traced(model: nn.Module, inputs: Sequence[Any] | None) -> DataFlow | None:
    """The data flow in training and in evaluation; None where torch.fx cannot trace."""
    flow = DataFlow(defaultdict(list), set())
    try:
        for training in (True, False):
            with _mode(model, training):
                _add_graph(flow, model, _LayerTracer().trace(model, _defaults(model, inputs)))
    except Exception:  # whatever the network's code raises on proxies
        return None
    return flow


def _defaults(model: nn.Module, inputs: Sequence[Any] | None) -> dict[str, Any]:
    """The defaults of arguments of forward that inputs do not give; torch.fx would take them as given."""
    arguments = list(inspect.signature(model.forward).parameters.values())[len(inputs or (None,)) :]
    return {item.name: item.default for item in arguments if item.default is not item.empty}


class _LayerTracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*LAYERS, *EXPANDED)) or super().is_leaf_module(m, module_qualified_name)


def _add_graph(flow: DataFlow, model: nn.Module, graph: fx.Graph) -> None:
    def layer(node: object) -> nn.Module | None:
        is_call = isinstance(node, fx.Node) and node.op == "call_module"
        module = model.get_submodule(str(node.target)) if is_call else None  # type: ignore[attr-defined]
        return module if isinstance(module, LAYERS) else None

    flow.graphs += str(graph)
    for node in graph.nodes:
        module = layer(node)
        if module is not None:
            source = next(iter(node.all_input_nodes), None)
            flow.calls[module].append((layer(source), [layer(user) for user in node.users]))
        elif node.op == "get_attr":
            owner = model.get_submodule(str(node.target).rpartition(".")[0])
            flow.bypassed |= {owner} if isinstance(owner, LAYERS) else set()


class _Recorder(TorchFunctionMode):
    """Notes who reads the outputs of layers, and parameters of layers that are read outside of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers = [module for module in model.modules() if isinstance(module, LAYERS)]
        tensors = ((value, layer) for layer in layers for value in chain(layer.parameters(False), layer.buffers(False)))
        self.owners = {id(value): layer for value, layer in tensors}
        self.flow = DataFlow(defaultdict(list), set())
        self.outputs: dict[int, Any] = {}  # layer, readers and output, held so that no other gets its id
        self.source: nn.Module | None = None
        self.inside = False
        self.hooks = [layer.register_forward_pre_hook(self.enter) for layer in layers]
        self.hooks += [layer.register_forward_hook(self.leave) for layer in layers]

    def read(self, values: object, reader: nn.Module | None = None) -> None:
        """Note a reader of all outputs of layers among values."""
        self.source = None
        for value in map(id, tree_leaves(values)):
            if value in self.outputs:
                self.source, readers, _ = self.outputs[value]
                readers.append(reader)
            elif value in self.owners:
                self.flow.bypassed.add(self.owners[value])

    def watch(self) -> AbstractContextManager[Any]:
        """Note reading a layer's parameter or buffer as an attribute, if only for its dtype."""
        get: Callable[[nn.Module, str], Any] = nn.Module.__getattr__

        def noted(module: nn.Module, name: str) -> Any:
            value = get(module, name)
            if not self.inside and id(value) in self.owners:
                self.flow.bypassed.add(self.owners[id(value)])
            return value

        return mock.patch.object(nn.Module, "__getattr__", noted)

    def enter(self, layer: nn.Module, inputs: Any) -> None:
        self.read(inputs, layer)
        self.inside = True

    def leave(self, layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG002
        readers: list[nn.Module | None] = []
        self.flow.calls[layer].append((self.source, readers))
        self.outputs[id(output)] = (layer, readers, output)
        self.inside = False

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        is_read = func.__name__ != "__get__" or isinstance(output, Tensor)  # not of its shape, dtype and the like
        if is_read and not self.inside:
            self.read((args, kwargs))
        return output


class _OperatorRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what operators read, for code that calls them past torch's functions, such as TorchScript."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.recorder.inside:
            self.recorder.read((args, kwargs))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _recorded(model: nn.Module, inputs: Sequence[Any] | None) -> DataFlow:
    require(not any(map(is_lazy, model.parameters())), "model", "uninitialized", "run it once on images before")
    require(not isinstance(inputs, Tensor), "inputs", "a tensor", "a tuple of what forward takes, such as (images,)")
    problem: Exception | None = None
    for candidate in [inputs] if inputs is not None else _candidates(model):
        recorder = _Recorder(model)
        try:
            with _mode(model, False), recorder, _OperatorRecorder(recorder), recorder.watch():
                recorder.read(model(*candidate))
            return recorder.flow  # noqa: TRY300
        except Exception as error:  # whatever the network's code raises on inputs that do not fit
            problem = error
        finally:
            for hook in recorder.hooks:
                hook.remove()
    raised = f"{type(problem).__name__}: {problem}".partition("\n")[0]
    allowed = f"give inputs=(images,) with which it runs: torch.fx cannot trace it, and it raised {raised}"
    raise InputError.of("inputs", None if inputs is None else "given", allowed)


def _candidates(model: nn.Module) -> Iterator[tuple[Any]]:
    """Inputs to try: a batch of images, and a list of them, as torchvision's detectors take."""
    conv = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    for size, channels in product(SIZES, dict.fromkeys((3, 1, conv.in_channels) if conv else ())):
        images = next(model.parameters()).new_zeros(2, channels, size, size)
        yield (images,)
        yield (list(images),)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a network in a mode; afterwards attributes and buffers, which its forward may write, are as before."""
    attributes = [(vars(module), dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    try:
        model.train(training)
        yield
    finally:
        for held, before, names in attributes:
            held.clear()
            held.update(before)
            held["_buffers"].update(names)
        for buffer, version, value in buffers:
            if buffer._version != version:
                buffer.copy_(value)
