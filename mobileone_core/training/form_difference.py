"""How far a network's two forms lie apart in what they say of the test images."""

import torch
from torch import Tensor, nn
from torchmetrics import MaxMetric

from mobileone_core.model.reparam import reparameterize


class FormDifference:
    """Runs the deployed form beside a network that is evaluated, and keeps the largest differences of logits.

    No nn.Module: the copy stays out of the state dict.
    """

    def __init__(self, network: nn.Module, layout: torch.memory_format) -> None:
        self.deployed = reparameterize(network).to(memory_format=layout)
        device = next(self.deployed.parameters()).device
        self.difference = MaxMetric(nan_strategy="disable").to(device)
        self.largest = MaxMetric(nan_strategy="disable").to(device)

    def update(self, images: Tensor, logits: Tensor) -> None:
        """One batch of images (B, C, H, W) and what the network said of them, (B, classes)."""
        self.difference.update((self.deployed(images) - logits).abs())
        self.largest.update(logits.abs())

    def compute(self) -> dict[str, float]:
        """form_difference, in logits, and form_difference_relative, a fraction of the largest logit."""
        difference, largest = float(self.difference.compute()), float(self.largest.compute())
        return {"form_difference": difference, "form_difference_relative": difference / largest if largest else 0.0}
