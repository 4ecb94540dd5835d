"""Activations by name, squeeze-and-excite, and the small network inside SE and the dynamic activations."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.spec import ACTIVATIONS, ContextWidths, activation_widths, squeeze_excite_widths

STATIC: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,  # the exact one, x * Phi(x)
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


class ContextNetwork(nn.Module):
    """Average pool, linear, ReLU, linear: (N, C, H, W) -> (N, outputs, 1, 1).

    The linear layers are 1x1 convolutions, so that all tensors have rank 4.
    """

    def __init__(self, widths: ContextWidths) -> None:
        super().__init__()
        channels, hidden, outputs = widths
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, outputs, 1)

    def context(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the outputs (N, outputs, 1, 1), before any activation of them."""
        out: Tensor = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return out


class SqueezeExcite(ContextNetwork):
    """Squeeze-and-excite, x * sigmoid(context(x)) (Hu et al., CVPR 2018, section 3), reduction 16 as released."""

    def __init__(self, channels: int) -> None:
        super().__init__(squeeze_excite_widths(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.context(x).sigmoid()


class DynamicReLU(ContextNetwork):
    """y = max_k a_k(x) x + b_k(x), k = 1, 2 (Chen et al., ECCV 2020, section 3): (N, C, H, W) -> the same.

    The residuals d = 2 sigmoid(context(x)) - 1 give a = alpha + d_a and b = d_b / 2, with alpha = (1, 0): zero
    residuals are ReLU. Variant A shares one function over all channels, B has one per channel; the reduction is 8.
    """

    def forward(self, x: Tensor) -> Tensor:
        residuals = 2 * self.context(x).sigmoid() - 1
        slope_1, slope_2, offset_1, offset_2 = residuals.chunk(4, dim=1)  # a literal, for TorchScript
        return torch.maximum((1 + slope_1) * x + 0.5 * offset_1, slope_2 * x + 0.5 * offset_2)


class DynamicShiftMax(ContextNetwork):
    """y_i = max_k sum_j a_ijk(x) x_((i + j C/2) mod C), j = 0, 1 and k = 1, 2: (N, C, H, W) -> the same.

    Li et al., MicroNet, ICCV 2021, section 4, with J = K = 2 and two groups of channels (C/2 rounded down). The
    range of a is that of its released code: a = alpha + 4 hardsigmoid(context(x)) - 2, with alpha = 1 for the
    channel itself and 0 for the shifted one; the reduction is 8. Unlike that code: no further shift by one channel
    within the group, and hidden widths need not be multiples of 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        residuals = 4 * F.hardsigmoid(self.context(x)) - 2
        same_1, other_1, same_2, other_2 = residuals.chunk(4, dim=1)
        half = x.shape[1] // 2
        shifted = torch.cat((x[:, half:], x[:, :half]), dim=1)
        return torch.maximum((1 + same_1) * x + other_1 * shifted, (1 + same_2) * x + other_2 * shifted)


def build_activation(name: str, channels: int) -> nn.Module:
    """Build an activation for feature maps with this number of channels. Raises InputError for an unknown name."""
    if name in STATIC:
        return STATIC[name]()
    widths = activation_widths(name, channels)
    if widths is None:
        raise InputError.of("activation", name, f"one of {', '.join(ACTIVATIONS)}")
    return DynamicShiftMax(widths) if name == "dynamic_shift_max" else DynamicReLU(widths)
