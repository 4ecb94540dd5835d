"""What is timed, as data: a network, how it is run, and at which size. No torch here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mobileone_core.errors import InputError, require
from mobileone_core.latency.zoo import zoo_entry
from mobileone_core.model.spec import MAX_K, ModelSpec

Form = Literal["train", "deployed"]
RuntimeName = Literal["onnxruntime", "torch", "torch_compile", "openvino", "cuda", "cuda_graph"]
Precision = Literal["float32", "float16", "bfloat16"]
Layout = Literal["contiguous", "channels_last"]
ChainActivation = Literal[
    "relu",
    "gelu",
    "silu",
    "hardswish",
    "se_relu",
    "dynamic_shift_max",
    "dynamic_relu_a",
    "dynamic_relu_b",
    "dynamic_relu_a_rank5",
    "dynamic_relu_b_rank5",
]
ChainBlock = Literal["baseline", "se", "skip", "se_skip"]


@dataclass(frozen=True)
class Runtime:
    """What executes a network, and how: threads within a call, precision of weights and activations, memory layout.

    Raises InputError.
    """

    name: RuntimeName = "onnxruntime"
    threads: int = 1
    precision: Precision = "float32"
    layout: Layout = "contiguous"

    def __post_init__(self) -> None:
        _require_choice("runtime", self.name, RuntimeName)
        _require_count("threads", self.threads)
        _require_choice("precision", self.precision, Precision)
        _require_choice("layout", self.layout, Layout)


@dataclass(frozen=True)
class NamedNetwork:
    """A network by its name in latency/zoo.py: a MobileOne variant, or another's. Other networks are timed as deployed.

    k: branches of a MobileOne block, 0 as the variant has it. Raises InputError.
    """

    model: str = "mobileone_s0"
    form: Form = "deployed"
    k: int = 0

    def __post_init__(self) -> None:
        entry = zoo_entry(self.model)
        _require_choice("form", self.form, Form)
        fits = isinstance(self.k, int) and not isinstance(self.k, bool) and 0 <= self.k <= MAX_K
        require(fits, "k", self.k, f"an integer from 1 to {MAX_K}, or 0 for the variant's own")
        is_own = entry.library == "mobileone"
        require(is_own or self.form == "deployed", "form", self.form, f"{self.model} is timed as deployed")
        require(is_own or not self.k, "k", self.k, f"{self.model} has no MobileOne blocks")


@dataclass(frozen=True)
class Chain:
    """The 30-layer convolutional network of section 3.1 (tables 2 and 3), whose shape was not published: this is ours.

    depth convolutions of kernel_size without change of width or resolution follow a stem of stride stem_stride; each is
    followed by its activation, and has SE or a skip connection around it where block says so. Raises InputError.
    """

    activation: ChainActivation = "relu"
    block: ChainBlock = "baseline"
    depth: int = 30
    width: int = 32
    kernel_size: int = 3
    stem_stride: int = 4

    def __post_init__(self) -> None:
        _require_choice("activation", self.activation, ChainActivation)
        _require_choice("block", self.block, ChainBlock)
        for name in ("depth", "width", "kernel_size", "stem_stride"):
            _require_count(name, getattr(self, name))
        require(self.kernel_size % 2 == 1, "kernel_size", self.kernel_size, "an odd integer of 1 or more")


TimedNetwork = NamedNetwork | Chain | ModelSpec  # a ModelSpec is timed in its deployed form
KINDS: dict[str, type] = {"named": NamedNetwork, "chain": Chain, "mobileone": ModelSpec}


@dataclass(frozen=True)
class LatencyCell:
    """One network in one runtime, batch 1, at image_size pixels a side. Raises InputError."""

    network: TimedNetwork = field(default_factory=NamedNetwork)
    runtime: Runtime = field(default_factory=Runtime)
    image_size: int = 224
    num_classes: int = 1000

    time_metric, ratio_metric, control_metric = "latency/median", "latency/ratio", "control/latency_ratio"
    gap = ""  # a network that no library has keeps its row

    def __post_init__(self) -> None:
        _require_count("image_size", self.image_size)
        _require_count("num_classes", self.num_classes)

    @property
    def parts(self) -> Mapping[str, Any]:
        """What options and factors name the fields of, by its name."""
        return {"network": self.network, "runtime": self.runtime}

    @property
    def threads(self) -> int:
        """Threads within a call."""
        return self.runtime.threads

    @property
    def runtime_name(self) -> str:
        """What executes the network."""
        return self.runtime.name

    @property
    def size_words(self) -> str:
        """The image's size."""
        return f"{self.image_size} px, batch 1"

    def changed(self, changes: Mapping[str, Any]) -> "LatencyCell":
        """This cell with other fields, by names such as network.activation, runtime.name and image_size."""
        parts: dict[str, dict[str, Any]] = {"network": {}, "runtime": {}, "": {}}
        for name, value in changes.items():
            part, _, item = name.rpartition(".")
            parts[part][item] = value
        for part, known in (("network", self.network), ("runtime", self.runtime)):
            names = [entry.name for entry in dataclasses.fields(known)]
            strange = sorted(set(parts[part]) - set(names))
            require(not strange, f"{part} field", ", ".join(strange), f"one of {', '.join(names)}")
        network, runtime = replace(self.network, **parts["network"]), replace(self.runtime, **parts["runtime"])
        return replace(self, network=network, runtime=runtime, **parts[""])

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it; from_plain reads it back."""
        kind = next(name for name, known in KINDS.items() if isinstance(self.network, known))
        return {"kind": kind, **dataclasses.asdict(self)}

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "LatencyCell":
        """Raises InputError where another version wrote it."""
        try:
            known = KINDS[content["kind"]]
            network = known(**{name: _frozen(value) for name, value in content["network"].items()})
            return cls(network, Runtime(**content["runtime"]), content["image_size"], content["num_classes"])
        except (KeyError, TypeError) as error:
            raise InputError(f"latency cell: written by another version ({error})") from error


def _frozen(value: Any) -> Any:  # noqa: ANN401
    return tuple(value) if isinstance(value, list) else value


def _require_choice(field_name: str, value: object, choices: object) -> None:
    allowed = get_args(choices)
    require(value in allowed, field_name, value, f"one of {', '.join(allowed)}")


def _require_count(field_name: str, value: object) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(fits, field_name, value, "an integer of 1 or more")
