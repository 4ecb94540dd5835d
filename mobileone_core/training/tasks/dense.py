"""Parts that detection and segmentation share: annotated images, whole networks, and pictures of predictions."""

import itertools
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

from mobileone_core.data.annotated.files import IGNORED
from mobileone_core.data.annotated.loaders import AnnotatedLoaders, AnnotatedTask
from mobileone_core.data.loaders import LoaderOptions, SplitLoaders
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.model_card import EXAMPLES
from mobileone_core.training.tasks.backbones import cost_of
from mobileone_core.training.tasks.task import Task

SCORE = 0.5  # smallest score of a detection that is drawn
WORST, COLUMNS, SIDE = 6, 3, 160  # images in the grid, and pixels of one
FONT = str(Path(cast("Any", find_spec("matplotlib")).origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
Annotation = Any  # of one image: boxes (n, 4), labels from 1 and maybe scores as a dict, or a mask of classes (H, W)


class DenseTask(Task):
    """Detection or segmentation."""

    def open_data(self, data_root: Path | None, options: LoaderOptions) -> SplitLoaders:
        """Open images with boxes or masks."""
        spec, task = self.spec, cast("AnnotatedTask", self.spec.task)
        return AnnotatedLoaders(spec.data, task, data_root, spec.seed, options)

    def deployed_cost(self, network: nn.Module, images: Tensor) -> dict[str, float]:
        """Parameters and multiply-adds of the whole deployed network."""
        return cost_of(network, images)

    def mistakes(self) -> "Examples":
        """The images with the largest losses."""
        return Examples(self)


def folded(network: Any) -> Any:
    """A copy in deployed form, in evaluation mode, whose head's norms are in its convolutions, too."""
    network = reparameterize(network.eval()).eval()
    for layers in (item for item in network.head.modules() if isinstance(item, nn.Sequential)):
        for index, (conv, norm) in enumerate(itertools.pairwise([*layers])):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[index], layers[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network


class Examples:
    """Collects the images of a test with the largest losses, with ground truth and prediction."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.worst: list[tuple[float, Tensor, Any, Any]] = []  # loss, image, target, prediction

    def update(self, images: Tensor, outputs: Any, targets: Any) -> None:
        """Add a batch: normalized images (B, C, S, S), the network's outputs, and targets."""
        is_boxes, predicted = isinstance(outputs, dict), self.task.predictions(outputs, images)
        named = outputs if is_boxes else {}
        for index in range(len(images)):
            one = slice(index, index + 1)
            single = {name: item if name == "anchors" else item[one] for name, item in named.items()}
            loss = float(self.task.loss(single if is_boxes else outputs[one], targets[one]))
            self.worst.append((loss, images[index].cpu(), targets[index], predicted[index]))
        self.worst = sorted(self.worst, key=lambda item: -item[0])[:WORST]

    def save(self, directory: Path, names: Sequence[str]) -> tuple[Path, ...]:
        """Write examples.png, pairs of ground truth and prediction, the worst first; return the file."""
        data, pairs, path = self.task.spec.data, [], directory / EXAMPLES
        entry, names = DATA_SETS[data.name], names or [*map(str, range(data.num_classes))]
        mean, std = (torch.tensor(values)[:, None, None] for values in (entry.mean, entry.std))
        for _, image, *shown in self.worst:
            mode = "nearest-exact" if image.shape[-1] <= SIDE else "area"  # small files; no aliases
            pixels = F.interpolate((image.float() * std + mean)[None].clamp(0, 1), (SIDE, SIDE), mode=mode)[0]
            sized = [resized(item, image.shape[-1], (SIDE, SIDE)) for item in shown]
            drawn = [draw((pixels * 255).round().byte().expand(3, -1, -1), item, names) for item in sized]
            pairs.append(make_grid(drawn, padding=1, pad_value=255))
        to_pil_image(make_grid(pairs, nrow=COLUMNS, padding=4, pad_value=255)).save(path)
        return (path,)


def resized(item: Any, pixels: int, size: tuple[int, int], score: float = SCORE) -> Annotation:
    """A prediction or target for an image of pixels x pixels, for the same image with another size (rows, columns).

    Of logits (classes, pixels, pixels) the best classes remain, of detections those with this score at least.
    """
    if isinstance(item, dict):
        chosen = item["scores"] >= score if "scores" in item else slice(None)
        kept = {name: item[name][chosen].cpu() for name in ("boxes", "labels", "scores") if name in item}
        return {**kept, "boxes": kept["boxes"] * torch.tensor([*reversed(size)] * 2) / pixels}
    mask = (item if item.dim() == 2 else item.argmax(0)).cpu()
    return F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].long()


def describe(predicted: Annotation, names: Sequence[str]) -> list[dict[str, Any]]:
    """Name, score and box of every object, or name and share of every class, the largest first; as JSON."""
    if not isinstance(predicted, dict):
        counts = Counter(predicted.flatten().tolist()).most_common()
        return [{"name": names[number], "share": count / predicted.numel()} for number, count in counts]
    objects = zip(*(predicted[name].tolist() for name in ("labels", "scores", "boxes")), strict=True)
    return [{"name": names[label - 1], "score": score, "box": box} for label, score, box in objects]


def draw(image: Tensor, shown: Annotation, names: Sequence[str]) -> Tensor:
    """A copy of an image, uint8 (3, H, W), with an annotation in its pixels.

    Objects have a box, name and score; regions of a class its colour, except background and what is ignored.
    """
    is_boxes, side = isinstance(shown, dict), min(image.shape[1:])
    numbers = shown["labels"].tolist() if is_boxes else torch.unique(shown).tolist()
    numbers = [item for item in numbers if is_boxes or (item != IGNORED and names[item] != "background")]
    if not numbers:
        return image
    colors = [f"hsl({137 * number % 360}, 90%, 60%)" for number in numbers]  # those of neighbours are far apart
    if not is_boxes:
        masks = torch.stack([shown == number for number in numbers])
        return cast("Tensor", draw_segmentation_masks(image, masks, 0.6, colors))
    scores = [f" {score:.2f}" for score in shown["scores"].tolist()] if "scores" in shown else [""] * len(numbers)
    texts = [names[number - 1] + score for number, score in zip(numbers, scores, strict=True)]
    style: dict[str, Any] = {"width": max(1, side // 150), "font": FONT, "font_size": max(10, side // 35)}
    return cast("Tensor", draw_bounding_boxes(image, shown["boxes"], texts, colors, fill_labels=True, **style))
