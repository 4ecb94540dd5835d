"""The description of a MobileOne network as data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from typing import Any, Literal, get_args

from mobileone_core.errors import plain, require, require_choice, require_integer
from mobileone_core.fields import as_tuples, check_options, make_plain, number_rule, option

Activation = Literal["relu", "gelu", "silu", "hardswish", "dynamic_relu_a", "dynamic_relu_b", "dynamic_shift_max"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
BlockExecution = Literal["branches", "folded", "auto"]  # how a block trains: network.set_execution
BLOCK_EXECUTIONS: tuple[str, ...] = get_args(BlockExecution)
BlockMethod = Literal["mobileone", "repvgg", "acnet", "dbb", "expandnet"]  # which branches: methods.method_branches
BLOCK_METHODS: tuple[str, ...] = get_args(BlockMethod)
MAX_K = 16
_MULTIPLE = number_rule(lambda value: 0 < value < 100, "a multiple above 0 and below 100")
OUTPUT_STRIDES = (32, 16, 8, 4)
SMALL_IMAGE = 64  # pixels; images up to this size take CIFAR's convention for strides
SE_REDUCTION = 16
DYNAMIC_REDUCTION = 8  # R: the default of Dynamic ReLU, and of MicroNet's released settings
PIECES = 2  # K, the pieces of Dynamic ReLU and Shift-Max; also J, the channels that Shift-Max fuses
ContextWidths = tuple[int, int, int]  # channels in, hidden, out of the small network that reads the pooled input


@dataclass(frozen=True)
class BlockSpec:
    """One MobileOne block: k conv-BN branches, and a scale and a skip branch if its shape allows, or another method's.

    dilation is the distance of the kernels' taps. The padding is kernel_size // 2 of them, so kernel_size must be odd.
    Without allow_skip there is no skip branch, as in the strided block whose weights a dilated one takes. Raises
    InputError.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    k: int
    reparam: bool
    se: bool
    dilation: int = 1
    allow_skip: bool = True
    method: BlockMethod = "mobileone"

    def __post_init__(self) -> None:
        make_plain(self)
        require_integer("dilation", self.dilation)
        fits = _is_count(self.kernel_size) and self.kernel_size % 2 == 1
        require(fits, "kernel_size", self.kernel_size, "an odd integer of 1 or more")

    @property
    def scale(self) -> bool:
        """Whether the block has a scale branch: a 1x1 conv-BN next to larger kernels."""
        return self.reparam and self.kernel_size > 1 and self.method in ("mobileone", "repvgg")

    @property
    def skip(self) -> bool:
        """Whether the block has a skip branch: a BN of the input."""
        allowed = self.reparam and self.allow_skip and self.method in ("mobileone", "repvgg")
        return allowed and self.in_channels == self.out_channels and self.stride == 1


@dataclass(frozen=True)
class ModelSpec:
    """A MobileOne network; the defaults are the released S0 with k = 1.

    Args:
        widths: Output channels of each stage. The released code has four; its third is stages 4 and 5 of table 7.
        depths: Blocks of each stage, each a depthwise and a pointwise one.
        k: Parallel conv-BN branches of a block in train form (section 3.3), 1 to 16.
        reparam: False builds the plain network without branches, scale and skip; it requires k = 1.
        activation: Activation of every block, one of ACTIVATIONS.
        se: "none", "all" (every block), "paper" (S4: the last half of the third stage and all of the fourth), or the
            number of blocks with SE at the end of each stage.
        stem_k: Branches of the first, dense 3x3 block: 1 in the released code and weights, the variant's k in table 7.
        stem_stride: Stride of the first block.
        stage_strides: Stride of the first block of each stage.
        in_channels: Channels of the input images.
        output_stride: Largest total stride, for detection and segmentation: 16, 8 or 4 dilate the stages beyond it
            instead of striding, so that outputs at every second (fourth, eighth) pixel stay those of the strided
            network. 32 keeps the strides as they are.
        block_method: Which branches blocks have: "mobileone" or a method of table 4 (model/methods.py). "repvgg",
            "acnet" and "dbb" need k = stem_k = 1, and have no skip branch but repvgg's; repvgg is mobileone with k = 1.
            "expandnet" has one branch of three convolutions, k (stem_k) times as wide inside, no scale and no skip.

    Raises InputError (a ValueError) that names the field, the value and what is allowed.

    >>> ModelSpec.preset("s0", k=1, activation="gelu").widths
    (48, 128, 256, 1024)
    """

    widths: tuple[int, ...] = option((48, 128, 256, 1024), "Output channels of each stage.")
    depths: tuple[int, ...] = option((2, 8, 10, 1), "Blocks of each stage, a depthwise and a pointwise one each.")
    k: int = option(1, "Parallel conv-BN branches per block while it trains, 1 to 16.")
    reparam: bool = option(True, "The branches of training; without them one conv-BN per block, and k = 1.")
    activation: Activation = option("relu", "Activation of every block; the dynamic ones add layers of their own.")
    se: Literal["none", "paper", "all"] | tuple[int, ...] = option(
        "none",
        "Squeeze-and-excite: none, paper (S4's placement), all, or blocks that have it at the end of each stage.",
    )
    stem_k: int = option(1, "Parallel conv-BN branches of the first block, 1 to 16.")
    stem_stride: int = option(2, "Stride of the first block.", require_integer)
    stage_strides: tuple[int, ...] = option((2, 2, 2, 2), "Stride of each stage's first block.")
    in_channels: int = 3
    output_stride: int = option(32, "Largest total stride, 32, 16, 8 or 4; stages beyond it dilate. 32 keeps all.")
    block_method: BlockMethod = option("mobileone", "Branches of a block; repvgg, acnet and dbb imply k = 1.")

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "stage_strides", "se"):  # JSON has lists
            object.__setattr__(self, name, as_tuples(getattr(self, name)))
        check_options(self)
        for name in ("widths", "depths", "stage_strides"):
            _check_stages(name, getattr(self, name), self.widths)
        require_integer("in_channels", self.in_channels)
        fits, allowed = self.reparam or self.block_method == "mobileone", "without re-parameterization it is mobileone"
        require(fits, "block_method", self.block_method, allowed)
        for name in ("k", "stem_k"):
            value = getattr(self, name)
            require_integer(name, value, at_most=MAX_K)
            require(self.reparam or value == 1, name, value, "without re-parameterization (reparam=False) it is 1")
            fits = value == 1 or self.block_method in ("mobileone", "expandnet")
            require(fits, name, value, f"with block_method {self.block_method} it is 1")
        fits = require_integer("output_stride", self.output_stride) in OUTPUT_STRIDES
        require(fits, "output_stride", self.output_stride, "32, 16, 8 or 4")
        allowed = "'none', 'all', 'paper' (four stages) or blocks with SE per stage, each from 0 to the stage's depth"
        if isinstance(self.se, str):
            fits = self.se in ("none", "all") or (self.se == "paper" and len(self.depths) == 4)
        else:
            fits = isinstance(self.se, tuple) and len(self.se) == len(self.depths)
            fits = fits and all(isinstance(n, int) and 0 <= n <= d for n, d in zip(self.se, self.depths, strict=True))
        require(fits, "se", self.se, allowed)

    @classmethod
    def preset(cls, variant: str, **changes: Any) -> "ModelSpec":
        """Return a variant, s0 to s4 of the paper or our micro, tiny, small, with fields changed. Raises InputError."""
        require_choice("variant", variant, PRESETS)
        unknown = sorted(set(changes) - set(cls.__dataclass_fields__))
        require(not unknown, "field", ", ".join(unknown), f"one of {', '.join(cls.__dataclass_fields__)}")
        return PRESETS[variant].changed(**changes)

    def changed(self, **changes: Any) -> "ModelSpec":
        """Return a copy with some fields changed; reparam=False implies k = 1, as do methods repvgg, acnet and dbb."""
        if changes.get("reparam") is False:
            changes = {"block_method": "mobileone", **changes}
        if changes.get("reparam") is False or changes.get("block_method") in ("repvgg", "acnet", "dbb"):
            changes = {"k": 1, "stem_k": 1, **changes}
        return replace(self, **changes)

    def scaled(self, width: float = 1, depth: float = 1) -> "ModelSpec":
        """Return a copy: channels of each stage times width, in multiples of 8; blocks times depth, at least 1.

        Four channels become eight; fewer are an InputError.
        """
        width, depth = plain(width), plain(depth)
        _MULTIPLE("width", width)
        _MULTIPLE("depth", depth)
        widths = self.widths if width == 1 else tuple(_in_eights(item * width) for item in self.widths)
        require(min(widths) > 0, "width", width, f"a multiple that leaves 8 channels or more of {min(self.widths)}")
        depths = tuple(max(1, round(item * depth)) for item in self.depths)
        return replace(self, widths=widths, depths=depths)

    def fitted_to(self, image_size: int, before: int = 0) -> "ModelSpec":
        """Return the network with CIFAR's strides, 1 in stem and first stage, if images are small.

        Changes only networks that would reduce an image of image_size pixels, at most 64, to a single pixel, and those
        that were fitted to another size (before).
        """
        require_integer("image_size", image_size)
        unfitted = replace(self, stem_stride=2, stage_strides=(2, *self.stage_strides[1:]))
        if before and self == unfitted.fitted_to(before):
            return unfitted.fitted_to(image_size)
        if image_size > SMALL_IMAGE or self.reduction < image_size:
            return self
        return replace(self, stem_stride=1, stage_strides=(1, *self.stage_strides[1:]))

    @property
    def reduction(self) -> int:
        """Total stride: input pixels per pixel of the last feature map, along one side."""
        return self.feature_strides[-1]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each map of MobileOne.forward_features, along one side."""
        strides = (stride for stride, _, _ in self._dilations())
        return tuple(accumulate(strides, mul, initial=self.stem_stride))

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of each map of MobileOne.forward_features."""
        return (self.stem_width, *self.widths)

    @property
    def stem_width(self) -> int:
        """Output channels of the first block: at most 64 (the released code's in_planes)."""
        return min(64, self.widths[0])

    @property
    def se_blocks(self) -> tuple[int, ...]:
        """Blocks with SE at the end of each stage."""
        if self.se == "none":
            return (0,) * len(self.depths)
        if self.se == "all":
            return self.depths
        if self.se == "paper":
            return (0, 0, self.depths[2] // 2, self.depths[3])
        return tuple(self.se)

    def stem(self) -> BlockSpec:
        """The first block, a dense 3x3 block without SE."""
        sizes = (self.in_channels, self.stem_width, 3, self.stem_stride, 1, self.stem_k)
        return BlockSpec(*sizes, self.reparam, se=False, method=self.block_method)

    def stages(self) -> Iterator[tuple[BlockSpec, ...]]:
        """Yield the blocks of each stage: depthwise 3x3 and pointwise 1x1 in turn."""
        channels = self.stem_width
        stages = zip(self.widths, self.depths, self.stage_strides, self._dilations(), self.se_blocks, strict=True)
        for width, depth, wanted_stride, (first_stride, *dilations), with_se in stages:
            blocks = []
            for index in range(depth):
                stride, dilation = (first_stride, dilations[0]) if index == 0 else (1, dilations[1])
                how, skip = (self.k, self.reparam, index >= depth - with_se), index > 0 or wanted_stride == 1
                blocks += [
                    BlockSpec(channels, channels, 3, stride, channels, *how, dilation, skip, self.block_method),
                    BlockSpec(channels, width, 1, 1, 1, *how, method=self.block_method),
                ]
                channels = width
            yield tuple(blocks)

    def _dilations(self) -> Iterator[tuple[int, int, int]]:
        """Yield stride and dilation of each stage's first block, and the dilation of its others.

        A first block that no longer strides still reads what it read before, as in torchvision's and timm's ResNets.
        """
        reached, dilation = self.stem_stride, 1
        for wanted in self.stage_strides:
            dilates = self.output_stride < OUTPUT_STRIDES[0] and reached * wanted > self.output_stride
            before, stride = dilation, 1 if dilates else wanted
            reached, dilation = reached * stride, dilation * (wanted // stride)
            yield stride, before, dilation


def squeeze_excite_widths(channels: int) -> ContextWidths:
    """Return the widths of an SE layer; hidden is int(channels / 16) as released, at least 1."""
    return channels, max(1, channels // SE_REDUCTION), channels


def activation_widths(activation: str, channels: int) -> ContextWidths | None:
    """Return the widths of the small network inside a dynamic activation, or None for one without parameters."""
    outputs = {
        "dynamic_relu_a": 2 * PIECES,
        "dynamic_relu_b": 2 * PIECES * channels,
        "dynamic_shift_max": PIECES * PIECES * channels,
    }
    hidden = max(1, channels // DYNAMIC_REDUCTION)
    return (channels, hidden, outputs[activation]) if activation in outputs else None


def _in_eights(channels: float) -> int:
    """The nearest multiple of 8; four channels make 8."""
    return 8 * max(round(channels / 8), int(channels >= 4))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_stages(name: str, value: Any, widths: Any) -> None:
    fits = isinstance(value, tuple) and len(value) >= 1 and all(_is_count(item) for item in value)
    require(fits, name, value, "a tuple of integers of 1 or more, one per stage")
    require(len(value) == len(widths), name, value, f"as many integers as widths: {len(widths)}")


PRESETS: dict[str, ModelSpec] = {
    "s0": ModelSpec(k=4),
    "s1": ModelSpec(widths=(96, 192, 512, 1280)),
    "s2": ModelSpec(widths=(96, 256, 640, 2048)),
    "s3": ModelSpec(widths=(128, 320, 768, 2048)),
    "s4": ModelSpec(widths=(192, 448, 896, 2048), se="paper"),
    "tiny": ModelSpec(widths=(16, 32, 64, 128), depths=(1, 1, 2, 1), k=4, stage_strides=(1, 2, 2, 1)),
    # tiny's teacher, twice as wide; like tiny, not a network of the paper.
    "small": ModelSpec(widths=(32, 64, 128, 256), depths=(1, 1, 2, 1), stage_strides=(1, 2, 2, 1)),
    # Half as wide as tiny: it underfits data sets with tens of thousands of images.
    "micro": ModelSpec(widths=(8, 16, 32, 64), depths=(1, 1, 2, 1), k=4, stage_strides=(1, 2, 2, 1)),
}
