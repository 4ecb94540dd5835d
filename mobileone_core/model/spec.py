"""What a MobileOne network is, as data: no torch here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mobileone_core.errors import require

Activation = Literal["relu", "gelu", "silu", "hardswish", "dynamic_relu_a", "dynamic_relu_b", "dynamic_shift_max"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
BlockExecution = Literal["branches", "folded", "auto"]  # how a block trains: network.set_execution
BLOCK_EXECUTIONS: tuple[str, ...] = get_args(BlockExecution)
MAX_K = 16
MAX_SCALE = 100
SMALL_IMAGE = 64  # pixels; CIFAR's convention for strides starts here and below


@dataclass(frozen=True)
class BlockSpec:
    """One MobileOne block: k conv-BN branches, a scale and a skip branch where its shape allows.

    The padding is kernel_size // 2, so kernel_size is odd. Raises InputError.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    k: int
    reparam: bool
    se: bool

    def __post_init__(self) -> None:
        fits = _is_count(self.kernel_size) and self.kernel_size % 2 == 1
        require(fits, "kernel_size", self.kernel_size, "an odd integer of 1 or more")

    @property
    def scale(self) -> bool:
        """Whether a 1x1 conv-BN stands beside the larger kernels."""
        return self.reparam and self.kernel_size > 1

    @property
    def skip(self) -> bool:
        """Whether a BN alone carries the input over."""
        return self.reparam and self.in_channels == self.out_channels and self.stride == 1


@dataclass(frozen=True)
class ModelSpec:
    """A MobileOne network; the defaults are the released S0 with k = 1.

    widths and depths are output channels and blocks (a depthwise and a pointwise one each) a stage: the
    released code's four stages, of which the third holds stages 4 and 5 of table 7. k counts the parallel
    conv-BN branches (section 3.3), stem_k those of the first block, one dense 3x3: 1 in the released code
    and so in the released weights, the stage's k (4 for S0) in table 7. se is "none", "all" (every block
    of every stage), "paper" (S4's placement: the last half of the third stage and all of the fourth) or the
    number of blocks with SE at the end of each stage.
    Raises InputError (a ValueError) naming the field, the value and what is allowed.
    """

    widths: tuple[int, ...] = (48, 128, 256, 1024)
    depths: tuple[int, ...] = (2, 8, 10, 1)
    k: int = 1
    reparam: bool = True
    activation: Activation = "relu"
    se: Literal["none", "paper", "all"] | tuple[int, ...] = "none"
    stem_k: int = 1
    stem_stride: int = 2
    stage_strides: tuple[int, ...] = (2, 2, 2, 2)
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "stage_strides"):
            _check_stages(name, getattr(self, name), self.widths)
        for name in ("stem_stride", "in_channels"):
            require(_is_count(getattr(self, name)), name, getattr(self, name), "an integer of 1 or more")
        require(isinstance(self.reparam, bool), "reparam", self.reparam, "True or False")
        for name in ("k", "stem_k"):
            value = getattr(self, name)
            require(_is_count(value) and value <= MAX_K, name, value, f"an integer from 1 to {MAX_K}")
            allowed = "without re-parameterization (reparam=False) it is 1"
            require(self.reparam or value == 1, name, value, allowed)
        require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {', '.join(ACTIVATIONS)}")
        self._check_se()

    def _check_se(self) -> None:
        allowed = "'none', 'all', 'paper' (four stages) or blocks with SE a stage, each from 0 to the stage's depth"
        if isinstance(self.se, str):
            fits = self.se in ("none", "all") or (self.se == "paper" and len(self.depths) == 4)
        else:
            fits = isinstance(self.se, tuple) and len(self.se) == len(self.depths)
            fits = fits and all(isinstance(n, int) and 0 <= n <= d for n, d in zip(self.se, self.depths, strict=True))
        require(fits, "se", self.se, allowed)

    @classmethod
    def preset(cls, variant: str, **changes: Any) -> "ModelSpec":  # noqa: ANN401
        """A variant (s0 to s4; tiny and small are ours) and what differs; reparam=False brings k = 1 with it."""
        require(variant in PRESETS, "variant", variant, f"one of {', '.join(PRESETS)}")
        unknown = sorted(set(changes) - set(cls.__dataclass_fields__))
        require(not unknown, "field", ", ".join(unknown), f"one of {', '.join(cls.__dataclass_fields__)}")
        return PRESETS[variant].changed(**changes)

    def changed(self, **changes: Any) -> "ModelSpec":  # noqa: ANN401
        """This network with other fields; reparam=False brings k = 1 with it."""
        if changes.get("reparam") is False:
            changes = {"k": 1, "stem_k": 1, **changes}
        return replace(self, **changes)

    def scaled(self, width: float = 1, depth: float = 1) -> "ModelSpec":
        """Multiples of every stage's channels, rounded to a multiple of 8, and of its blocks, at least one each."""
        for name, value in (("width", width), ("depth", depth)):
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MAX_SCALE
            require(fits, name, value, f"a multiple above 0 and below {MAX_SCALE}")
        widths = self.widths if width == 1 else tuple(8 * round(item * width / 8) for item in self.widths)
        require(min(widths) > 0, "width", width, f"a multiple that leaves 8 channels or more of {min(self.widths)}")
        depths = tuple(max(1, round(item * depth)) for item in self.depths)
        return replace(self, widths=widths, depths=depths)

    def fitted_to(self, image_size: int) -> "ModelSpec":
        """The same network with CIFAR's strides for small images: no reduction in the stem and first stage.

        Only a network that would reduce the image to a single pixel or less is changed.
        """
        require(_is_count(image_size), "image_size", image_size, "an integer of 1 or more")
        if image_size > SMALL_IMAGE or self.reduction < image_size:
            return self
        return replace(self, stem_stride=1, stage_strides=(1, *self.stage_strides[1:]))

    @property
    def reduction(self) -> int:
        """Input pixels along one side of a pixel of the last feature map."""
        product = self.stem_stride
        for stride in self.stage_strides:
            product *= stride
        return product

    @property
    def stem_width(self) -> int:
        """Channels after the first block: never above 64 (the released code's in_planes)."""
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
        """The dense 3x3 block that reads the image; without SE."""
        return BlockSpec(self.in_channels, self.stem_width, 3, self.stem_stride, 1, self.stem_k, self.reparam, se=False)

    def stages(self) -> Iterator[tuple[BlockSpec, ...]]:
        """The blocks of each stage: depthwise 3x3, pointwise 1x1, and so on."""
        channels = self.stem_width
        stages = zip(self.widths, self.depths, self.stage_strides, self.se_blocks, strict=True)
        for width, depth, first_stride, with_se in stages:
            blocks = []
            for index in range(depth):
                stride = first_stride if index == 0 else 1
                se = index >= depth - with_se
                blocks += [
                    BlockSpec(channels, channels, 3, stride, channels, self.k, self.reparam, se),
                    BlockSpec(channels, width, 1, 1, 1, self.k, self.reparam, se),
                ]
                channels = width
            yield tuple(blocks)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_stages(name: str, value: object, widths: object) -> None:
    fits = isinstance(value, tuple) and len(value) >= 1 and all(_is_count(item) for item in value)
    require(fits, name, value, "a tuple of integers of 1 or more, one a stage")
    if isinstance(value, tuple) and isinstance(widths, tuple):
        require(len(value) == len(widths), name, value, f"as many integers as widths: {len(widths)}")


PRESETS: dict[str, ModelSpec] = {
    "s0": ModelSpec(k=4),
    "s1": ModelSpec(widths=(96, 192, 512, 1280)),
    "s2": ModelSpec(widths=(96, 256, 640, 2048)),
    "s3": ModelSpec(widths=(128, 320, 768, 2048)),
    "s4": ModelSpec(widths=(192, 448, 896, 2048), se="paper"),
    "tiny": ModelSpec(widths=(16, 32, 64, 128), depths=(1, 1, 2, 1), k=4, stage_strides=(1, 2, 2, 1)),
    # tiny's teacher: twice as wide. No network of the paper either.
    "small": ModelSpec(widths=(32, 64, 128, 256), depths=(1, 1, 2, 1), stage_strides=(1, 2, 2, 1)),
}
