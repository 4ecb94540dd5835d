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
from mobileone_core.training.distillation import Teachers, divergence, widened
from mobileone_core.training.distributed import broadcast_buffers, data_parallel, mean_over_ranks
from mobileone_core.training.ema import AveragedNetwork
from mobileone_core.training.evaluate import ranks
from mobileone_core.training.form_difference import FormDifference
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.optimizer import build_optimizer, schedule
from mobileone_core.training.recipe import Recipe

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W], labels [B]
SoftBatch = tuple[Tensor, Tensor, Tensor]  # and the teachers' probabilities [B, classes]


class ClassificationModule(LightningModule):
    """Cross entropy with label smoothing, or its mixture with soft labels; schedules by step, metrics by epoch.

    The averaged network is validated and tested where the recipe has one. train/loss is what is minimized, its mean
    over an epoch's steps; val/loss and test/loss are the smoothed cross entropy over the images, as in figure 4, with
    teachers too. test/form_difference compares the tested network with its deployed form, in the recipe's precision.
    steps counts the batches of an epoch. Of a cell's several processes each has its share of every batch: gradients
    are averaged and metrics cover all images; BatchNorm sees each share by itself, and the running statistics are
    rank 0's, unless the network is synchronized.
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
        teachers: Teachers | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=layout)
        self.layout = layout
        self.averaged = AveragedNetwork(network, recipe.ema_decay) if recipe.ema_decay else None
        self.recipe, self.steps, self.seed = recipe, steps, seed
        self.teachers = teachers
        self.forms: FormDifference | None = None
        self.mean_loss = MeanMetric(nan_strategy="disable")  # the default leaves NaN out; this one, weights
        self.accuracies = MetricCollection(
            {f"top{k}": MulticlassAccuracy(num_classes, k, "micro", validate_args=False) for k in ranks(num_classes)},
            compute_groups=False,
        )
        self.results: dict[str, float] = {}  # val/... of the last epoch, test/... once tested
        self._losses: list[Tensor] = []
        self._forward = self.network.__call__  # in training; with other processes their DDP's

    @property
    def final(self) -> nn.Module:
        """The network that is validated, tested and kept."""
        return self.network if self.averaged is None else self.averaged.module

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.network, self.recipe)

    def on_fit_start(self) -> None:
        self._forward = data_parallel(self.network)
        if self.averaged is not None:
            self.averaged.follow(self.network)
        if self.teachers is not None:
            self.teachers.to(self.device, next(self.network.parameters()).dtype, self.layout)

    def on_train_batch_start(self, batch: Batch | SoftBatch, batch_idx: int) -> None:  # noqa: ARG002
        # here, not at the start of the epoch: Lightning draws random numbers in between
        if batch_idx == 0:
            torch.manual_seed(derive_seed(self.seed, "epoch", self.current_epoch))
            self._losses = []

    def training_step(self, batch: Batch | SoftBatch, batch_idx: int) -> Tensor:
        images, labels, *soft = batch
        progress = (self.current_epoch * self.steps + batch_idx) / (self.recipe.epochs * self.steps)
        schedule(self.trainer.optimizers[0], self.recipe, progress)
        logits = self._forward(images.contiguous(memory_format=self.layout))
        loss = self._loss(logits, labels)
        if self.teachers is not None:
            probabilities = soft[0] if soft else self.soft_labels(images)
            distance = divergence(logits, probabilities, self.recipe.temperature).mean()
            loss = self.recipe.hard_label_weight * loss + (1 - self.recipe.hard_label_weight) * distance
        self._losses.append(loss.detach())
        return loss

    def soft_labels(self, images: Tensor) -> Tensor:
        """What the teachers say of images (B, C, H, W), in the recipe's precision: probabilities (B, classes)."""
        assert self.teachers is not None
        precision = self.trainer.precision_plugin
        with precision.forward_context():
            return self.teachers(precision.convert_input(images).contiguous(memory_format=self.layout))

    def on_train_batch_end(self, outputs: object, batch: Batch | SoftBatch, batch_idx: int) -> None:  # noqa: ARG002
        if self.averaged is not None:
            self.averaged.update()

    def on_validation_start(self) -> None:
        broadcast_buffers(self.final)

    def validation_step(self, batch: Batch) -> None:
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_start(self) -> None:
        broadcast_buffers(self.final)
        self.forms = FormDifference(self.final, self.layout)

    def test_step(self, batch: Batch) -> None:
        logits = self._measure(batch)
        assert self.forms is not None
        self.forms.update(batch[0].contiguous(memory_format=self.layout), logits)

    def on_test_epoch_end(self) -> None:
        with self.mean_loss.sync_context():
            self.results["test/images"] = float(self.mean_loss.weight)
        self._report("test")
        assert self.forms is not None
        self.results |= {f"test/{name}": value for name, value in self.forms.compute().items()}

    def epoch_metrics(self) -> dict[str, float]:
        """What the epoch just finished measured; TrainingFailed names the first step whose loss is not finite."""
        losses = mean_over_ranks(torch.stack(self._losses)).tolist()  # the epoch's one wait for the device
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

    def _loss(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(widened(logits), labels, label_smoothing=smoothing, reduction=reduction)

    def _measure(self, batch: Batch) -> Tensor:
        images, labels = batch
        logits: Tensor = self.final(images.contiguous(memory_format=self.layout))
        self.mean_loss.update(self._loss(logits, labels, reduction="none"))
        self.accuracies.update(logits, labels)
        return logits

    def _report(self, stage: str) -> None:
        measured = {"loss": self.mean_loss.compute(), **self.accuracies.compute()}
        self.results |= {f"{stage}/{name}": float(value) for name, value in measured.items()}
        self.mean_loss.reset()
        self.accuracies.reset()
