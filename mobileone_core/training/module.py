"""A cell's network, loss, optimizer and metrics as a LightningModule."""

import math

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mobileone_core.data.seeding import derive_seed
from mobileone_core.training.averaging import AveragedNetwork
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.optimizer import build_optimizer
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.schedules import learning_rate, weight_decay

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W], labels [B]


class ClassificationModule(LightningModule):
    """Cross entropy with label smoothing, schedules by step, metrics by epoch.

    The averaged network is validated and tested where the recipe has one. train/loss is the mean over an epoch's
    steps; val/loss and test/loss are the same smoothed loss over the images, as in figure 4.
    steps counts the batches of an epoch.
    """

    def __init__(  # noqa: PLR0913
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        num_classes: int,
        steps: int,
        seed: int,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=layout)
        self.layout = layout
        self.averaged = AveragedNetwork(network, recipe.ema_decay) if recipe.ema_decay else None
        self.recipe, self.steps, self.seed = recipe, steps, seed
        self.mean_loss = MeanMetric(nan_strategy="disable")  # the default leaves NaN out; this one, weights
        self.accuracies = MetricCollection(
            {f"top{k}": MulticlassAccuracy(num_classes, k, "micro", validate_args=False) for k in ranks(num_classes)},
            compute_groups=False,
        )
        self.results: dict[str, float] = {}  # val/... of the last epoch, test/... once tested
        self._losses: list[Tensor] = []

    @property
    def final(self) -> nn.Module:
        """The network that is validated, tested and kept."""
        return self.network if self.averaged is None else self.averaged.module

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.network, self.recipe)

    def on_fit_start(self) -> None:
        if self.averaged is not None:
            self.averaged.follow(self.network)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        # here, not at the start of the epoch: Lightning draws random numbers in between
        if batch_idx == 0:
            torch.manual_seed(derive_seed(self.seed, "epoch", self.current_epoch))
            self._losses = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        self._schedule((self.current_epoch * self.steps + batch_idx) / (self.recipe.epochs * self.steps))
        loss = self._loss(self.network(images.contiguous(memory_format=self.layout)), labels)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        if self.averaged is not None:
            self.averaged.update()

    def validation_step(self, batch: Batch) -> None:
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def test_step(self, batch: Batch) -> None:
        self._measure(batch)

    def on_test_epoch_end(self) -> None:
        self.results["test/images"] = float(self.mean_loss.weight)
        self._report("test")

    def epoch_metrics(self) -> dict[str, float]:
        """What the epoch just finished measured; TrainingFailed names the first step whose loss is not finite."""
        losses = torch.stack(self._losses).tolist()  # the epoch's one wait for the device
        for step, loss in enumerate(losses, start=1):
            if not math.isfinite(loss):
                raise TrainingFailed(f"epoch {self.current_epoch + 1}, step {step}: the training loss is {loss}")
        if not math.isfinite(self.results["val/loss"]):
            raise TrainingFailed(
                f"epoch {self.current_epoch + 1}, step {self.steps}: the validation loss is not finite"
            )
        groups = self.trainer.optimizers[0].param_groups
        rates = {
            "train/learning_rate": groups[0]["lr"],
            "train/weight_decay": max(group["weight_decay"] for group in groups),
        }
        return {"train/loss": sum(losses) / len(losses), **rates, **self.results}

    def _schedule(self, progress: float) -> None:
        lr, decay = learning_rate(self.recipe, progress), weight_decay(self.recipe, progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr
            group["weight_decay"] = decay if group["decay"] else 0.0

    def _loss(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction=reduction)

    def _measure(self, batch: Batch) -> None:
        images, labels = batch
        logits = self.final(images.contiguous(memory_format=self.layout))
        self.mean_loss.update(self._loss(logits, labels, reduction="none"))
        self.accuracies.update(logits, labels)

    def _report(self, stage: str) -> None:
        measured = {"loss": self.mean_loss.compute(), **self.accuracies.compute()}
        self.results |= {f"{stage}/{name}": float(value) for name, value in measured.items()}
        self.mean_loss.reset()
        self.accuracies.reset()


def ranks(num_classes: int) -> tuple[int, ...]:
    """The k of the top-k accuracies that say something: top-5 needs more than 5 classes."""
    return (1, 5) if num_classes > 5 else (1,)
