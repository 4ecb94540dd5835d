"""Detectors and segmenters as they are exported and timed: folded; a detector with decoded boxes."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from mobileone_core.model.network import ExportNetwork
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.ssdlite import SSDLite

OFFSETS = (10.0, 5.0)  # torchvision's BoxCoder divides offsets of centres and of logarithms of sides by these
LARGEST = math.log(1000 / 16)  # logarithm of a box's side as a multiple of its anchor's, at most


class DeployedDetector(ExportNetwork):
    """A detector before NMS: images (N, C, S, S) to boxes (N, A, 4) and scores (N, A, classes).

    Boxes are xyxy in pixels, clipped to the image, one per anchor; scores are probabilities without the background's.
    It is made of a folded copy of a cell's trained detector; anchors are those of S = image_size.
    """

    output_names = ("boxes", "scores")
    centres: Tensor  # of anchors, (A, 2), in pixels
    sides: Tensor
    limits: Tensor

    def __init__(self, network: SSDLite, cell: CellSpec, image_size: int) -> None:
        super().__init__()
        self.spec, self.num_classes, self.image_size = cell.model, cell.data.num_classes, image_size
        self.network, images = folded(network), torch.zeros(1, cell.data.channels, image_size, image_size)
        heads = self.network.head.predict  # in the order of execution, in which layers are compared with a file's
        heads.classification_head = heads._modules.pop("classification_head")
        with torch.no_grad():
            self.grids = [tuple(item.shape[2:]) for item in self.network.maps(images)[0]]
            starts, ends = self.network(images)["anchors"].split(2, 1)
        self.register_buffer("centres", (starts + ends) / 2)  # buffers, which float16 rounds as it does weights
        self.register_buffer("sides", ends - starts)
        self.register_buffer("limits", torch.tensor([1 / OFFSETS[0], 1 / OFFSETS[1], LARGEST]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        _, outputs = self.network.maps(images)
        moved, grown = outputs["bbox_regression"].split(2, -1)
        shift, growth, largest = self.limits
        centres = self.centres + moved * shift * self.sides
        halves = torch.minimum(grown * growth, largest).exp() * self.sides / 2
        boxes = torch.cat([centres - halves, centres + halves], -1).clamp(0, self.image_size)
        return boxes, outputs["cls_logits"].softmax(-1)[..., 1:]

    def facts(self) -> dict[str, Any]:
        """Anchors and the decoding of boxes, as JSON."""
        pairs = [(side.clamp(0, 1) * self.image_size).tolist() for side in self.network.boxes._wh_pairs]
        maps = [
            {"rows": rows, "columns": columns, "sides": [[round(side, 3) for side in pair] for pair in sides]}
            for (rows, columns), sides in zip(self.grids, pairs, strict=True)
        ]
        order = "maps, rows, columns, sides (width, height in pixels); centres at (index + 0.5) / count of the image"
        return {
            "anchors": {"count": len(self.centres), "maps": maps, "order": order},
            "decoding": {
                "where": "inside",
                "centre": f"anchor's centre + offset / {OFFSETS[0]:g} x anchor's side",
                "side": f"anchor's side x exp(min(offset / {OFFSETS[1]:g}, {LARGEST:.6f}))",
                "clipped": [0, self.image_size],
            },
        }


def folded(network: Any) -> Any:
    """A copy in deployed form, in evaluation mode, whose head's norms are in its convolutions, too."""
    network = reparameterize(network.eval()).eval()
    for layers in (item for item in network.head.modules() if isinstance(item, nn.Sequential)):
        for index, (conv, norm) in enumerate(itertools.pairwise([*layers])):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[index], layers[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
