"""The 30-layer convolutional network of section 3.1 (tables 2 and 3), with every activation and block."""

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from mobileone_core.latency.cell import Chain
from mobileone_core.model.activations import DynamicReLU, SqueezeExcite, build_activation
from mobileone_core.model.spec import PIECES, activation_widths

TRANSPOSED = "_rank5"
CHANNELS = 3  # of an image


class TransposedDynamicReLU(DynamicReLU):
    """Dynamic ReLU as its public implementations compute it, in rank 5; the same function, (N, C, H, W) -> the same.

    Channels (B) or columns (A) come last, so that coefficients broadcast; the maximum is over a new last axis.
    """

    def forward(self, x: Tensor) -> Tensor:
        count, channels = x.shape[0], x.shape[1]
        residuals = (2 * self.context(x).sigmoid() - 1).view(count, 2 * PIECES, -1)
        coefficients = residuals.transpose(1, 2) * x.new_tensor([1, 1, 0.5, 0.5]) + x.new_tensor([1, 0, 0, 0])
        if coefficients.shape[1] == channels:  # B: one function per channel, (N, C, 4) and (H, W, N, C, 1)
            spread = x.permute(2, 3, 0, 1).unsqueeze(-1)
            return self._largest(spread, coefficients).permute(2, 3, 0, 1)
        spread = x.transpose(0, -1).unsqueeze(-1)  # A: (N, 4) and (W, C, H, N, 1)
        return self._largest(spread, coefficients[:, 0]).transpose(0, -1)

    @staticmethod
    def _largest(spread: Tensor, coefficients: Tensor) -> Tensor:
        """The largest of the linear pieces: (..., 1) and slopes, intercepts (..., 4) -> (...)."""
        pieces = spread * coefficients[..., :PIECES] + coefficients[..., PIECES:]
        return pieces.max(dim=-1)[0]


class ChainLayer(nn.Module):
    """Convolution and BN, then SE and the skip connection if the block has them, then the activation."""

    def __init__(self, spec: Chain) -> None:
        super().__init__()
        width, size = spec.width, spec.kernel_size
        self.conv = nn.Conv2d(width, width, size, padding=size // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(width)
        self.se = SqueezeExcite(width) if spec.block in ("se", "se_skip") else nn.Identity()
        self.skips = spec.block in ("skip", "se_skip")
        self.act = chain_activation(spec.activation, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.se(self.bn(self.conv(x)))
        out = self.act(out + x if self.skips else out)
        return out


class ChainNetwork(nn.Module):
    """Stem, layers of constant width and resolution, classifier: (N, 3, H, W) -> (N, num_classes)."""

    def __init__(self, spec: Chain, num_classes: int) -> None:
        super().__init__()
        size, stride = spec.kernel_size, spec.stem_stride
        self.stem = nn.Conv2d(CHANNELS, spec.width, size, stride=stride, padding=size // 2)
        self.layers = nn.Sequential(*(ChainLayer(spec) for _ in range(spec.depth)))
        self.head = nn.Linear(spec.width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.stem(x)).mean((2, 3)))
        return logits


def chain_activation(name: str, channels: int) -> nn.Module:
    """A ChainActivation for feature maps with this number of channels. Raises InputError for an unknown name."""
    if name == "se_relu":
        return nn.Sequential(SqueezeExcite(channels), nn.ReLU())
    plain = name.removesuffix(TRANSPOSED)
    widths = activation_widths(plain, channels)
    if name != plain and widths is not None:
        return TransposedDynamicReLU(widths)
    return build_activation(plain, channels)


@torch.no_grad()
def fold_norms(network: ChainNetwork) -> None:
    """Fold the BN of every layer into its convolution, in place. The network must be in evaluation mode."""
    for layer in network.layers:
        assert isinstance(layer, ChainLayer)
        assert isinstance(layer.bn, nn.BatchNorm2d)
        layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
        layer.bn = nn.Identity()
