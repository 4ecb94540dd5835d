"""The test under corruptions: eight kinds at five severities, of torchvision's transforms; ours, not ImageNet-C's."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.autoaugment import seeded
from mobileone_core.data.epochs import BatchLoader, EpochPlan
from mobileone_core.data.memory import ImageTensor, MemoryLoader
from mobileone_core.data.seeding import derive_seed
from mobileone_core.training.evaluate import evaluate
from mobileone_core.training.module import CellModule


def _jpeg(quality: int, image: Tensor) -> Tensor:  # torchvision's is deprecated
    v2.functional.to_pil_image(image).save(file := BytesIO(), "JPEG", quality=quality)
    return torch.as_tensor(v2.functional.pil_to_tensor(Image.open(file)))


# Values of severities 1 to 5: standard deviation of pixels in [0, 1]; of the blur, as a share of the image's side;
# factors; JPEG's quality; resolution, as a share of the side; degrees to either side; alpha, as a share of the side.
# Each changes images more than the one before: 0.6 of the side makes uneven squares off their place, 0.5 even ones.
SEVERITIES = {
    **{"noise": (0.08, 0.12, 0.18, 0.26, 0.38), "blur": (0.02, 0.03, 0.04, 0.06, 0.08)},
    **{"contrast": (0.8, 0.65, 0.5, 0.4, 0.3), "brightness": (0.85, 0.7, 0.55, 0.4, 0.3)},
    **{"jpeg": (20, 12, 8, 5, 3), "pixelation": (0.5, 0.6, 0.4, 0.3, 0.25)},
    **{"rotation": (8, 15, 22, 30, 38), "elastic": (0.5, 0.8, 1.1, 1.5, 2.0)},
}
NEAREST = InterpolationMode.NEAREST
FLOATS, BYTES = (v2.ToDtype(kind, scale=True) for kind in (torch.float32, torch.uint8))
CORRUPTIONS: Mapping[str, Callable[[float, int], v2.Transform]] = {  # of the value and the side in pixels
    "noise": lambda std, _: v2.Compose([FLOATS, v2.GaussianNoise(sigma=std), BYTES]),
    "blur": lambda std, side: v2.GaussianBlur(2 * max(1, round(3 * std * side)) + 1, std * side),
    "contrast": lambda factor, _: v2.ColorJitter(contrast=(factor, factor)),
    "brightness": lambda factor, _: v2.ColorJitter(brightness=(factor, factor)),
    "jpeg": lambda quality, _: v2.Lambda(partial(_jpeg, int(quality))),
    "pixelation": lambda share, side: v2.Compose([v2.Resize(round(share * side)), v2.Resize(side, NEAREST)]),
    "rotation": lambda angle, _: v2.RandomChoice([v2.RandomRotation((x, x)) for x in (angle, -angle)]),
    "elastic": lambda alpha, side: v2.ElasticTransform(alpha * side, side / 16),
}


def corrupt(images: Tensor, kind: str, severity: int) -> Tensor:
    """Corrupt images, uint8 (N, C, S, S), at a severity from 1 to 5; the draws depend on an image's number alone.

    The mean squared difference from the images grows with the severity, from 16 pixels per side on.
    """
    transform, corrupted = CORRUPTIONS[kind](SEVERITIES[kind][severity - 1], images.shape[-1]), []
    for number, image in enumerate(images):
        with seeded(derive_seed(0, "corruption", kind, number)):
            corrupted.append(transform(image))
    return torch.stack(corrupted)


def corrupted_accuracies(module: CellModule, test: BatchLoader, device: torch.device) -> dict[str, float]:
    """Return the deployed network's corrupted/KIND_top1, means over severities, and corrupted/top1, their mean.

    test has the clean images, in memory; every process of a cell tests all of them. Accuracies are fractions.
    """
    assert isinstance(test, MemoryLoader)
    images, labels, accuracies = test.data.images.cpu(), test.data.labels, dict[str, float]()
    plan = EpochPlan(len(labels), 0, test.plan.batch_size, images.shape[-1])
    for kind, values in SEVERITIES.items():
        top1 = []
        for severity in range(1, len(values) + 1):
            data = ImageTensor(corrupt(images, kind, severity), labels).to(device)
            batches = MemoryLoader(data, test.normalize, "none", plan)
            arguments = module.forms.deployed, module.task, batches
            options: Any = {"device": device, "layout": module.layout, "precision": module.recipe.precision}
            top1.append(evaluate(*arguments, stage="test", **options)["test/top1"])
        accuracies[f"corrupted/{kind}_top1"] = fmean(top1)
    return {**accuracies, "corrupted/top1": fmean(accuracies.values())}
