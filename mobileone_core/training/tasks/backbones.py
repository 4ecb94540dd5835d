"""Backbones of detectors and segmenters: MobileOne, or a network of timm or torchvision, as feature maps."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mobileone_core.errors import InputError, require
from mobileone_core.model.libraries import require_listed, split_name
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.cell import CellSpec

PROBE = 128  # pixels of the image by which strides are measured
LARGEST_STRIDE = 32


class LibraryBackbone(nn.Module):
    """The feature maps of a network of timm or torchvision: the last one of each stride of the strided network.

    feature_strides and feature_widths describe the maps as ModelSpec's do.

    Args:
        features: a network that returns its maps, as a list or by name, from large to small.
        channels: channels of the images.
    """

    def __init__(self, features: nn.Module, channels: int = 3) -> None:
        super().__init__()
        self.features = features
        with torch.no_grad():
            maps = self.eval().forward_features(torch.zeros(1, channels, PROBE, PROBE))
        self.train()
        self.feature_widths = tuple(item.shape[1] for item in maps)
        self.feature_strides = tuple(PROBE // item.shape[2] for item in maps)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Images (N, channels, H, W) to all maps (N, C_i, H / r_i, W / r_i)."""
        maps = self.features(x)
        return list(maps.values() if isinstance(maps, dict) else maps)


Backbone = MobileOne | LibraryBackbone


def map_shapes(backbone: Backbone) -> list[tuple[int, int]]:
    """Stride and channels of every map that forward_features returns."""
    described = backbone.spec if isinstance(backbone, MobileOne) else backbone
    return list(zip(described.feature_strides, described.feature_widths, strict=True))


def cost_of(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Parameters, and multiply-adds of convolutions and linear layers for images (1, C, H, W)."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    params = sum(parameter.numel() for parameter in network.parameters())
    return {"deployed/params": float(params), "deployed/macs": counter.get_total_flops() / 2}


def build_backbone(spec: CellSpec, execution: BlockExecution = "branches") -> Backbone:
    """Build a cell's backbone without a classifier; downloads nothing.

    Raises InputError for a network that the library lacks, that gives no feature maps, or that cannot be dilated.
    """
    if not spec.backbone:
        return build_model(spec.model, 0, execution)
    require_listed("backbone", spec.backbone)
    library, name = split_name(spec.backbone)
    stride, channels = spec.model.output_stride, spec.data.channels
    try:
        with warnings.catch_warnings(action="ignore"):  # about initial values, and about nodes of training alone
            build = _from_timm if library == "timm" else _from_torchvision
            backbone = LibraryBackbone(build(name, channels, stride), channels)
    except InputError:
        raise
    except Exception as error:  # each of a thousand constructors refuses in its own way
        text = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InputError.of("backbone", spec.backbone, text) from error
    dilates = any(max(part.dilation) > 1 for part in backbone.modules() if isinstance(part, nn.Conv2d))
    reached = max(backbone.feature_strides) if dilates else LARGEST_STRIDE  # timm's MobileOne strides less, undilated
    allowed = f"{reached}: {spec.backbone} does not follow it"
    require(stride in (LARGEST_STRIDE, reached), "output_stride", stride, allowed)
    return backbone


def _from_timm(name: str, channels: int, output_stride: int) -> nn.Module:
    import timm

    strides: dict[str, Any] = {} if output_stride == LARGEST_STRIDE else {"output_stride": output_stride}
    return timm.create_model(name, pretrained=False, features_only=True, in_chans=channels, **strides)


def _from_torchvision(name: str, channels: int, output_stride: int) -> nn.Module:
    from torchvision import models
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    require(channels == 3, "backbone", f"torchvision:{name}", f"images of 3 channels; the data have {channels}")
    strided = models.get_model(name, weights=None).eval()
    nodes = create_feature_extractor(strided, get_graph_node_names(strided)[1])(torch.zeros(1, 3, PROBE, PROBE))
    last = {  # a pixel per stride: not what is pooled to one
        PROBE // node.shape[2]: label
        for label, node in nodes.items()
        if isinstance(node, Tensor) and node.dim() == len("NCHW") and 1 < node.shape[2] < PROBE
    }
    dilated = models.get_model(name, weights=None, **_dilation(name, output_stride))
    return feature_extractor(dilated, [last[stride] for stride in sorted(last)])


def feature_extractor(network: nn.Module, nodes: list[str]) -> nn.Module:
    """The outputs of some nodes of a network, by name, as one graph for training and evaluation.

    It is that of evaluation: BN and dropout follow the mode, torchvision's stochastic depth is off. A copy of
    torchvision's two graphs would keep the one of the mode that it was copied in.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor: nn.Module = create_feature_extractor(network.eval(), nodes).eval()
    return copy.deepcopy(extractor).train()


def _dilation(name: str, output_stride: int) -> dict[str, Any]:
    """The arguments with which torchvision dilates its ResNets and MobileNetV3."""
    if output_stride == LARGEST_STRIDE:
        return {}
    is_v3 = name.startswith("mobilenet_v3")
    return {"dilated": True} if is_v3 else {"replace_stride_with_dilation": [False, output_stride == 8, True]}
