"""Builds the network of a latency cell, calibrated on random images and deployed, and counts its cost."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from mobileone_core.latency.cell import Chain, LatencyCell, NamedNetwork
from mobileone_core.latency.runtimes import UnmeasuredError
from mobileone_core.latency.zoo import MISSING, zoo_entry
from mobileone_core.model.activations import DynamicReLU, SqueezeExcite, build_activation
from mobileone_core.model.libraries import build_classifier
from mobileone_core.model.network import MobileOne, build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import PIECES, ModelSpec, activation_widths

CHANNELS = 3  # of an image
BATCHES, BATCH, LARGEST_BATCH = 2, 4, 32  # of calibration at USUAL_SIZE; smaller images, whose maps have few pixels,
USUAL_SIZE = 224  # come in larger batches
SEED = 0


def build_forms(cell: LatencyCell) -> tuple[nn.Module, nn.Module]:
    """A cell's network before folding and as timed, the same object if nothing folds; on the CPU, float32, evaluation.

    Weights are random but the same each time; BN is calibrated on random images. The random state is left as it was.
    Raises InputError if the network's library is not installed or lacks it, and UnmeasuredError if no library has the
    network, or if one of a library cannot read the images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network, deploy = _built(cell)
        batch = max(BATCH, min(LARGEST_BATCH, BATCH * (USUAL_SIZE // cell.image_size) ** 2))
        try:
            calibrate(network, [_images(cell, batch) for _ in range(BATCHES)])
        except Exception as error:
            if not isinstance(cell.network, NamedNetwork):
                raise
            text = f"{cell.network.model} at {cell.image_size} px: {error}"
            raise UnmeasuredError(" ".join(text.split())[:200]) from error
    network = network.eval()
    return network, (_deployed(network) if deploy else network).eval()  # timm's folding makes layers in train mode


def folding_metrics(unfolded: nn.Module, network: nn.Module, images: Tensor) -> dict[str, float]:
    """Parameters before folding and the outputs' relative change, if any. Raises UnmeasuredError above a thousandth."""
    if unfolded is network:
        return {}
    with torch.inference_mode():
        before, after = unfolded(images), network(images)
    distance = float((after - before).norm() / before.norm())
    if not distance <= 1e-3:  # NaN too
        raise UnmeasuredError(f"folding changed the outputs by {distance:.2g}, relatively; 0.001 is allowed")
    params = sum(parameter.numel() for parameter in unfolded.parameters())
    return {"unfolded/params": float(params), "unfolded/difference": distance}


def build_images(cell: LatencyCell) -> Tensor:
    """The input that is timed, normal noise: (B, C, S, S)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 1)
        return _images(cell, cell.batch_size)


def count_cost(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Numbers of parameters and, per image, of multiply-adds of convolutions, linear layers and attention products."""
    counted = copy.deepcopy(network).requires_grad_(False)  # the counter's hooks fail on tuples with some gradients
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        counted(images[:1])
    return sum(item.numel() for item in network.parameters()), counter.get_total_flops() // 2


def _built(cell: LatencyCell) -> tuple[nn.Module, bool]:
    """The network in the form to calibrate, and whether to fold it afterwards."""
    network = cell.network
    if isinstance(network, Chain):
        return ChainNetwork(network, cell.num_classes), True
    if isinstance(network, ModelSpec):
        return build_model(network, cell.num_classes), True
    entry = zoo_entry(network.model)
    if entry.library == "mobileone":
        spec = ModelSpec.preset(entry.entry, **({"k": network.k} if network.k else {}))
        return build_model(spec, cell.num_classes), network.form == "deployed"
    if not entry.library:
        raise UnmeasuredError(f"{entry.title}: {MISSING}")
    name, options = f"{entry.library}:{entry.entry}", dict[str, Any](entry.options, image_size=cell.image_size)
    return build_classifier("model", name, cell.num_classes, **options), entry.library == "timm"


def _deployed(network: nn.Module) -> nn.Module:
    if isinstance(network, ChainNetwork):
        fold_norms(network)
        return network
    if isinstance(network, MobileOne):
        return reparameterize(network)
    from timm.utils.model import reparameterize_model

    folded = reparameterize_model(network)
    return network if folded.state_dict().keys() == network.state_dict().keys() else folded


def _images(cell: LatencyCell, batch: int) -> Tensor:
    """Normal noise: (batch, C, S, S)."""
    channels = cell.network.in_channels if isinstance(cell.network, ModelSpec) else CHANNELS
    return torch.randn((batch, channels, cell.image_size, cell.image_size))


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
    plain = name.removesuffix("_rank5")
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
