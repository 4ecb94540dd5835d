"""The base class of tasks: all that a task contributes to training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, cast

from torch import Tensor, nn
from torchmetrics import MetricCollection

from mobileone_core.data.loaders import LoaderOptions, SplitLoaders, open_loaders
from mobileone_core.model.network import ExportNetwork
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks import task_spec


class Task(ABC):
    """The parts of a cell that depend on its task: data, network, loss and metrics.

    Batches are pairs (images, targets) with images (B, C, H, W). Outputs are what the network returns. Training hands
    targets and outputs through without looking into them.
    """

    def __init__(self, spec: CellSpec) -> None:
        self.spec = spec

    def open_data(self, data_root: Path | None, options: LoaderOptions) -> SplitLoaders:
        """Open the cell's train, validation and test batches. The default reads images with one label each."""
        return open_loaders(self.spec.data, data_root, self.spec.seed, options)

    @abstractmethod
    def build_network(self, execution: BlockExecution = "branches") -> nn.Module:
        """Build the backbone with the task's head, initialized from torch's current random state."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The batch's mean loss (0-d), which training minimizes."""

    def image_losses(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of every image (B,) for val/loss and test/loss, or 0-d if only the batch's mean is defined."""
        return self.loss(outputs, targets)

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """New metrics under the names of TaskSpec.metrics, updated with (outputs, targets)."""

    def mistakes(self) -> Any:
        """The collector of the test's mistakes for the run's artifacts, as Mistakes; None if the task shows none."""
        return None

    def predictions(self, outputs: Any, images: Tensor) -> Any:  # noqa: ARG002
        """Predictions that metrics compare with targets: the outputs, or decoded for images (B, C, H, W)."""
        return outputs

    def deployed_cost(self, network: nn.Module, images: Tensor) -> dict[str, float]:  # noqa: ARG002
        """Cost of the deployed network for the record, where no spec tells it."""
        return {}

    def exportable(self, network: nn.Module, image_size: int) -> ExportNetwork:  # noqa: ARG002
        """A folded copy of a trained network with the outputs that files and benchmarks have, in evaluation mode."""
        return cast("ExportNetwork", reparameterize(network.eval()))

    def tensors(self, outputs: Any) -> Sequence[Tensor]:
        """The tensors within outputs that the deployed form must reproduce."""
        return [outputs]


def build_task(spec: CellSpec) -> Task:
    """Make the cell's task: an instance of the class registered for spec.task."""
    return cast("Task", resolve_name(task_spec(spec.task).implementation)(spec))
