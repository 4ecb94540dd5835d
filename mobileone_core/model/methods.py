"""How methods over-parameterize a convolution for training, as data: the branches, and the layers of each.

Letters: C input and O output channels, G groups, R x S taps of the convolution's kernel.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.spec import BlockMethod, BlockSpec

Pair = tuple[int, int]
Window = tuple[int, int, int, int]  # taps of a kernel: first row, first column, rows, columns


class Layer(NamedTuple):
    """One layer of a branch; kernel None is a 1x1 at stride 1 before or after the convolution with the stride."""

    kind: Literal["conv", "average", "bn"]
    inputs: int
    outputs: int
    kernel: Pair | None = None


@dataclass(frozen=True)
class BranchPlan:
    """A branch: the window of the taps that it sees, and its layers in a row, by name; the last is a batch norm."""

    window: Window
    layers: dict[str, Layer]

    @property
    def is_one_kernel(self) -> bool:
        """Whether no norm stands between its layers, so that they are one convolution and one norm in training, too."""
        return sum(layer.kind == "bn" for layer in self.layers.values()) == 1


def method_branches(method: BlockMethod, conv: Geometry, k: int, scale: bool, skip: bool) -> dict[str, BranchPlan]:
    """The branches by name; fewer where a method's branch would repeat another.

    mobileone: k convolutions, a 1x1 one (scale) and a norm alone (skip). repvgg: the same with k = 1 (Ding et al., CVPR
    2021). acnet: the convolution, one of its row and one of its column (Ding et al., ICCV 2019). dbb: the convolution,
    a 1x1, a 1x1 before a convolution and a 1x1 before an average (Ding et al., CVPR 2021). expandnet: 1x1, convolution
    and 1x1 in a row, k times as wide, with one norm (Guo et al., NeurIPS 2020).
    """
    inputs, outputs, kernel = conv.in_channels, conv.out_channels, conv.pairs.kernel
    rows, columns = kernel
    full, centre, norm = (0, 0, *kernel), (rows // 2, columns // 2, 1, 1), Layer("bn", outputs, outputs)
    if method == "expandnet":
        chain = {  # without norms and biases between convolutions zeros stay zeros
            "conv1": Layer("conv", inputs, k * inputs),
            "conv2": Layer("conv", k * inputs, k * outputs, kernel),
            "conv3": Layer("conv", k * outputs, outputs),
        }
        return {"chain": BranchPlan(full, {**chain, "bn": norm})}
    windows = {f"kxk_{index}": full for index in range(k if method == "mobileone" else 1)}
    others = {"scale": centre} if scale or method != "mobileone" else {}
    if method == "acnet":
        others = {"row": (rows // 2, 0, 1, columns), "column": (0, columns // 2, rows, 1)}
    windows |= {name: window for name, window in others.items() if window not in windows.values()}
    branches = {
        name: BranchPlan(window, {"conv": Layer("conv", inputs, outputs, window[2:]), "bn": norm})
        for name, window in windows.items()
    }
    if method == "dbb" and full != centre:
        branches |= {name: BranchPlan(full, layers) for name, layers in _diverse(conv).items()}
    if method in ("mobileone", "repvgg") and skip and conv.can_skip:
        branches["skip"] = BranchPlan(centre, {"bn": norm})
    return branches


def block_branches(block: BlockSpec) -> dict[str, BranchPlan]:
    """The branches of a block of MobileOne."""
    return method_branches(block.method, Geometry.of(block), block.k, block.scale, block.skip)


def _diverse(conv: Geometry) -> dict[str, dict[str, Layer]]:
    """DBB's branches of two convolutions, with its inner widths; a depthwise average has no 1x1 before it."""
    inputs, outputs, groups, kernel = conv.in_channels, conv.out_channels, conv.groups, conv.pairs.kernel
    wide = 2 * inputs if groups == outputs else inputs
    norm = Layer("bn", outputs, outputs)
    first = {"conv1": Layer("conv", inputs, wide), "bn1": Layer("bn", wide, wide)}
    before = {"conv": Layer("conv", inputs, outputs), "bn1": norm} if not groups == inputs == outputs else {}
    return {
        "point_kxk": {**first, "conv2": Layer("conv", wide, outputs, kernel), "bn": norm},
        "average": {**before, "average": Layer("average", outputs, outputs, kernel), "bn": norm},
    }
