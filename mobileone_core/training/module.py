"""One cell as a LightningModule: what happens in a step, an epoch and an evaluation; and its training batches."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from mobileone_core.data.epochs import BatchLoader, Share
from mobileone_core.data.seeding import derive_seed
from mobileone_core.training.distillation import Teachers, divergence
from mobileone_core.training.distributed import broadcast_buffers, data_parallel, mean_over_ranks
from mobileone_core.training.evaluate import FormDifference
from mobileone_core.training.observer import TrainingFailed
from mobileone_core.training.optimizer import AveragedNetwork, build_optimizer, schedule
from mobileone_core.training.tasks.task import Task


class CellModule(LightningModule):
    """Trains a task's network by the cell's recipe: loss, schedules per step, EMA, metrics per epoch.

    train/loss is what is minimized, its mean over the steps of an epoch. val/... and test/... are the task's loss and
    metrics over all images, of the averaged network if the recipe has one; teachers are no part of them.
    test/form_difference compares the tested network with its deployed form, in the recipe's precision.

    If several processes train the cell, each gets its share of every batch: gradients are averaged and metrics cover
    all images. layout is the memory format of weights and images.
    """

    forms: FormDifference  # from the test on
    steps = 1  # of the current epoch

    def __init__(self, task: Task, network: nn.Module, layout: torch.memory_format, teachers: Teachers | None) -> None:
        super().__init__()
        self.task, self.recipe, self.layout = task, task.spec.recipe, layout
        self.network = network.to(memory_format=layout)
        self.averaged = AveragedNetwork(network, self.recipe.ema_decay) if self.recipe.ema_decay else None
        self.teachers = teachers
        self.mistakes = task.mistakes()
        self.mean_loss = MeanMetric(nan_strategy="disable")  # the default skips NaN; this one ignores weights
        self.metrics = task.metrics()
        self.first_epoch = 0  # of this attempt; Lightning asks for batches before it knows
        self.results: dict[str, float] = {}  # val/... of the last epoch, test/... once tested
        self._losses: list[Tensor] = []
        self._forward = self.network.__call__  # DDP's forward while several processes train

    @property
    def final(self) -> nn.Module:
        """The network that is validated, tested and saved: the averaged one if there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def configure_optimizers(self) -> Optimizer:
        """The recipe's optimizer."""
        return build_optimizer(self.network, self.recipe)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the epoch to go on with."""
        self.first_epoch = len(checkpoint["history"])

    def on_fit_start(self) -> None:
        """Prepare the networks on their device."""
        self._forward = data_parallel(self.network)
        if self.averaged is not None:
            self.averaged.follow(self.network)
        if self.teachers is not None:
            self.teachers.to(self.device, next(self.network.parameters()).dtype, self.layout)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Seed an epoch's first step; at the epoch's start would be too early, as Lightning draws in between."""
        if batch_idx == 0:
            torch.manual_seed(derive_seed(self.task.spec.seed, "epoch", self.current_epoch))
            self._losses = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step on images, targets and, if computed before, the teachers' probabilities; returns the loss."""
        images, targets, *soft_labels = batch
        progress = (self.current_epoch * self.steps + batch_idx) / (self.recipe.epochs * self.steps)
        schedule(self.trainer.optimizers[0], self.recipe, progress, self.trainer.global_step)
        outputs = self._forward(images.contiguous(memory_format=self.layout))
        loss = self.task.loss(outputs, targets)
        if self.teachers is not None:
            probabilities = soft_labels[0] if soft_labels else self.soft_labels(images)
            distance = divergence(outputs, probabilities, self.recipe.temperature).mean()
            loss = self.recipe.hard_label_weight * loss + (1 - self.recipe.hard_label_weight) * distance
        self._losses.append(loss.detach())
        return loss

    def soft_labels(self, images: Tensor) -> Tensor:
        """The teachers' probabilities (B, classes) for images (B, C, H, W), in the recipe's precision."""
        assert self.teachers is not None
        precision = self.trainer.precision_plugin
        with precision.forward_context():
            return self.teachers(precision.convert_input(images).contiguous(memory_format=self.layout))

    def on_train_batch_end(self, outputs: object, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Update the averaged network."""
        if self.averaged is not None:
            self.averaged.update()

    def on_validation_start(self) -> None:
        """Evaluate rank 0's statistics on every rank."""
        broadcast_buffers(self.final)

    def validation_step(self, batch: Any) -> None:
        """Measure a batch."""
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Take val/... into the results."""
        self._take_results("val")

    def on_test_start(self) -> None:
        """Fold the deployed form to compare with."""
        broadcast_buffers(self.final)
        self.forms = FormDifference(self.final, self.layout, self.task.tensors)
        size, channels = self.task.spec.data.image_size, self.task.spec.data.channels
        image = torch.zeros(1, channels, size, size, device=self.device)
        self.results |= self.task.deployed_cost(self.forms.deployed, image)

    def test_step(self, batch: Any) -> None:
        """Measure a batch, and the deployed form's difference on it."""
        outputs = self._measure(batch)
        self.forms.update(batch[0].contiguous(memory_format=self.layout), outputs)
        if self.mistakes is not None:
            self.mistakes.update(batch[0], outputs, batch[1])

    def on_test_epoch_end(self) -> None:
        """Take test/... into the results."""
        with self.mean_loss.sync_context():
            self.results["test/images"] = float(self.mean_loss.weight)
        self._take_results("test")
        self.results |= {f"test/{name}": value for name, value in self.forms.compute().items()}

    def epoch_metrics(self) -> dict[str, float]:
        """The finished epoch's metrics. Raises TrainingFailed if a step's loss or the validation loss is not finite."""
        losses = mean_over_ranks(torch.stack(self._losses)).tolist()  # the epoch's one wait for the device
        epoch = self.current_epoch + 1
        for step, loss in enumerate(losses, start=1):
            if not math.isfinite(loss):
                raise TrainingFailed(f"epoch {epoch}, step {step}: the training loss is {loss}")
        if not math.isfinite(self.results["val/loss"]):
            raise TrainingFailed(f"epoch {epoch}, step {self.steps}: the validation loss is not finite")
        groups = self.trainer.optimizers[0].param_groups
        return {
            "train/loss": sum(losses) / len(losses),
            "train/learning_rate": groups[0]["lr"],
            "train/weight_decay": max(group["weight_decay"] for group in groups),
            **self.results,
        }

    def _measure(self, batch: Any) -> Any:
        """Update loss and metrics with a batch; returns the network's outputs."""
        images, targets = batch
        outputs = self.final(images.contiguous(memory_format=self.layout))
        losses = self.task.image_losses(outputs, targets)
        self.mean_loss.update(losses.expand(len(images)))
        self.metrics.update(self.task.predictions(outputs, images), targets)
        return outputs

    def _take_results(self, stage: str) -> None:
        measured = {"loss": self.mean_loss.compute(), **self.metrics.compute()}
        self.results |= {f"{stage}/{name}": float(value) for name, value in measured.items()}
        self.mean_loss.reset()
        self.metrics.reset()


class EpochBatches:
    """Batches of the module's current epoch, with the teachers' probabilities where they can be computed beforehand.

    If an image never changes (no augmentation, phases or scales), the teachers see each image once, before the first
    batch; their probabilities, float32 (N, classes) in main memory, are then part of a batch.
    """

    def __init__(self, batches: BatchLoader, module: CellModule) -> None:
        self.batches, self.module, recipe = batches, module, module.recipe
        changes = recipe.augmentation != "none" or recipe.phases or recipe.scales
        self.precompute = module.teachers is not None and not changes
        self._soft_labels: Tensor | None = None

    def __len__(self) -> int:
        if self.module.recipe.scales:
            raise TypeError("every epoch has another number of steps")  # Lightning reads to the end of each
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.precompute and self._soft_labels is None:
            self._soft_labels = self._compute_soft_labels()
        epoch = max(self.module.current_epoch, self.module.first_epoch)
        self.batches.set_epoch(epoch, epoch / self.module.recipe.epochs)
        self.module.steps = len(self.batches)
        if self._soft_labels is None:
            yield from self.batches
            return
        for (images, labels), indices in zip(self.batches, self.batches.plan.batches(), strict=True):
            yield images, labels, self._soft_labels[indices]

    def _compute_soft_labels(self) -> Tensor:
        """One pass over all training images, in order, on every process."""
        plan = self.batches.plan
        share, batch_size = plan.share, plan.batch_size
        plan.shuffle, plan.share, plan.batch_size = False, Share(), batch_size // share.ranks
        try:
            return torch.cat([self.module.soft_labels(images).cpu() for images, _ in self.batches])
        finally:
            plan.shuffle, plan.share, plan.batch_size = True, share, batch_size
