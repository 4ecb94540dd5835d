"""Timed networks as data: a network, the runtime that executes it, and the size of its input."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

from mobileone_core.errors import refusing, require, require_choice, require_integer
from mobileone_core.fields import as_tuples, changed_parts, check_options, option
from mobileone_core.latency.zoo import zoo_entry
from mobileone_core.model.spec import MAX_K, Activation, ModelSpec

Form = Literal["train", "deployed"]
RuntimeName = Literal["onnxruntime", "torch", "torch_compile", "openvino", "cuda", "cuda_graph"]
Precision = Literal["float32", "float16", "bfloat16"]
Layout = Literal["contiguous", "channels_last"]
ChainActivation = Literal[Activation, "se_relu", "dynamic_relu_a_rank5", "dynamic_relu_b_rank5"]
ChainBlock = Literal["baseline", "se", "skip", "se_skip"]
_K = partial(require_integer, at_least=0, at_most=MAX_K)


@dataclass(frozen=True)
class Runtime:
    """How a network is executed: library, threads, precision and memory layout. Raises InputError."""

    name: RuntimeName = option("onnxruntime", "What executes the network.")
    threads: int = option(1, "Threads per call.", require_integer)
    precision: Precision = option("float32", "Precision of weights and activations.")
    layout: Layout = option("contiguous", "Memory format of activations.")

    def __post_init__(self) -> None:
        require_choice("runtime", self.name, get_args(RuntimeName))
        check_options(self)


@dataclass(frozen=True)
class NamedNetwork:
    """A network by name: a MobileOne variant, or another one, timed as deployed. Raises InputError."""

    model: str = option(
        "mobileone_s0",
        "A network of latency/zoo.py, timm:NAME or torchvision:NAME; table9 and peers are groups of rows.",
    )
    form: Form = option("deployed", "train, with the branches of training, or deployed, one convolution per block.")
    k: int = option(0, f"Parallel conv-BN branches per block in train form, 1 to {MAX_K}; 0: the variant's.", _K)

    def __post_init__(self) -> None:
        entry = zoo_entry(self.model)
        check_options(self)
        is_mobileone = entry.library == "mobileone"
        require(is_mobileone or self.form == "deployed", "form", self.form, f"{self.model} is timed as deployed")
        require(is_mobileone or not self.k, "k", self.k, f"{self.model} has no MobileOne blocks")


@dataclass(frozen=True)
class Chain:
    """The 30-layer convolutional network of section 3.1 (tables 2 and 3). Its shape was not published: this is ours.

    A stem of stride stem_stride is followed by depth convolutions of constant width and resolution, each followed by
    its activation. Raises InputError.
    """

    activation: ChainActivation = option("relu", "Activation; _rank5 is the usual, transposed form of dynamic ReLU.")
    block: ChainBlock = option("baseline", "What surrounds every convolution: nothing, SE, a skip connection, both.")
    depth: int = option(30, "Convolutions after the stem.", require_integer)
    width: int = option(32, "Channels of every convolution.", require_integer)
    kernel_size: int = option(3, "Kernel size of every convolution, odd.", require_integer)
    stem_stride: int = option(4, "Stride of the first convolution, which reads the image.", require_integer)

    def __post_init__(self) -> None:
        check_options(self)
        require(self.kernel_size % 2 == 1, "kernel_size", self.kernel_size, "an odd integer of 1 or more")


KINDS: dict[str, type] = {"named": NamedNetwork, "chain": Chain, "mobileone": ModelSpec}


@dataclass(frozen=True)
class LatencyCell:
    """One network in one runtime at image_size x image_size pixels; a ModelSpec is deployed. Raises InputError."""

    network: NamedNetwork | Chain | ModelSpec = field(default_factory=NamedNetwork)
    runtime: Runtime = field(default_factory=Runtime)
    image_size: int = option(224, "Pixels per side of the images.", require_integer)
    num_classes: int = option(1000, "Classes.", require_integer)
    batch_size: int = option(1, "Images per call; above 1 the report has images per second, too.", require_integer)

    time_metric, ratio_metric, control_metric = "latency/median", "latency/ratio", "control/latency_ratio"
    gap = ""  # a network that no library provides keeps its row

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def parts(self) -> Mapping[str, Any]:
        """The parts whose fields options and factors name, by the part's name."""
        return {"network": self.network, "runtime": self.runtime}

    @property
    def threads(self) -> int:
        """Threads per call."""
        return self.runtime.threads

    @property
    def runtime_name(self) -> str:
        """The runtime's name."""
        return self.runtime.name

    @property
    def size_text(self) -> str:
        """Image size and batch size, as text."""
        return f"{self.image_size} px, batch {self.batch_size}"

    def changed(self, changes: Mapping[str, Any]) -> "LatencyCell":
        """A copy with other fields, named as in network.activation, runtime.name or image_size. Raises InputError."""
        of_parts = {name: value for name, value in changes.items() if "." in name}
        own = {name: value for name, value in changes.items() if name not in of_parts}
        return replace(self, **own, **changed_parts(self.parts, of_parts))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON; from_dict reads it back."""
        kind = next(name for name, network in KINDS.items() if isinstance(self.network, network))
        content = {"kind": kind, **dataclasses.asdict(self)}
        for name in ("output_stride", "block_method"):  # later fields: keys stay as they are
            if content["network"].get(name) == getattr(ModelSpec, name):
                del content["network"][name]
        if self.batch_size == 1:
            del content["batch_size"]
        return content

    @classmethod
    @refusing("latency cell: written by another version")
    def from_dict(cls, content: dict[str, Any]) -> "LatencyCell":
        """Read a dictionary of to_dict. Raises InputError if another version wrote it."""
        network = KINDS[content["kind"]](**as_tuples(content["network"]))
        runtime, batch_size = Runtime(**content["runtime"]), content.get("batch_size", 1)
        return cls(network, runtime, content["image_size"], content["num_classes"], batch_size)
