"""Tasks: what a network is trained for. A TaskSpec describes one as light data; its implementation is a Task.

A new task is one file next to classification.py and one entry in TASKS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mobileone_core.data.spec import data_sets
from mobileone_core.errors import require_choice


@dataclass(frozen=True)
class TaskSpec:
    """A task as data, read by the command line and by reports.

    Attributes:
        implementation: the subclass of Task that trains it, as "module:class"; imported when a cell runs.
        data_sets: names of the data sets that it can train on.
        metrics: label in reports by the metric's name in the record (top1 of test/top1). All are fractions, higher is
            better; studies compare the first.
        recipes: default recipe by data set; the others take "paper".
        fitted: the recipe that "fitted" fits to a number of training images.
        variants: default variant by data set; the others take the study's.
        can_distil: whether the recipe may have teachers: outputs are then logits (B, classes).
        has_head: whether a HeadSpec describes its head, and the backbone may be a library's.
        chance_metric: the metric that tells a network that has learned nothing, if not the first.
        chance: its value then, at most; if 0, that of naming one class always, at most 1 / classes.
    """

    implementation: str
    data_sets: tuple[str, ...]
    metrics: Mapping[str, str]
    recipes: Mapping[str, str]
    fitted: str = "fitted"
    variants: Mapping[str, str] = field(default_factory=dict)
    can_distil: bool = False
    has_head: bool = False
    chance_metric: str = ""
    chance: float = 0.0

    @property
    def metric(self) -> str:
        """The primary metric of a trained cell: test/top1."""
        return f"test/{next(iter(self.metrics))}"

    def default_recipe(self, data: str) -> str:
        """The recipe that a data set takes unless one is named."""
        return self.recipes.get(data, "paper")


TASKS: dict[str, TaskSpec] = {
    "classification": TaskSpec(
        implementation="mobileone_core.training.tasks.classification:Classification",
        data_sets=data_sets("classification"),
        metrics={"top1": "top-1", "top5": "top-5"},
        recipes={"digits": "digits"}
        | dict.fromkeys(("mnist", "fashion_mnist", "kmnist", "emnist", "svhn"), "fashion")
        | dict.fromkeys(("stl10", "cifar10", "cifar100"), "cifar")
        | dict.fromkeys(("imagenette", "folder"), "fitted"),
        variants={"fashion_mnist": "micro"},
        can_distil=True,
    ),
    "detection": TaskSpec(
        implementation="mobileone_core.training.tasks.detection:Detection",
        data_sets=data_sets("detection"),
        metrics={"map": "mAP (50:95)", "map50": "AP 50", "map75": "AP 75"}
        | {f"map_{size}": f"mAP, {size} objects" for size in ("small", "medium", "large")},
        recipes={"coco": "mobilevit-ssdlite-coco", "boxes": "fitted", "scenes": "scenes-ssdlite"},
        fitted="scenes-ssdlite",
        has_head=True,
        chance_metric="test/map50",
        chance=0.01,
    ),
    "segmentation": TaskSpec(
        implementation="mobileone_core.training.tasks.segmentation:Segmentation",
        data_sets=data_sets("segmentation"),
        metrics={"miou": "mIoU"},
        recipes={"voc": "mobilevit-deeplab-voc", "ade20k": "cvnets-deeplab-ade20k"}
        | {"masks": "fitted", "scenes": "scenes-deeplab"},
        fitted="scenes-deeplab",
        has_head=True,
    ),
}


def task_spec(name: str) -> TaskSpec:
    """The description of a task by name. Raises InputError for an unknown one."""
    require_choice("task", name, TASKS)
    return TASKS[name]


def metric_labels() -> dict[str, str]:
    """Label in reports of every metric of every task, by the metric's name; all are fractions."""
    return {name: label for task in TASKS.values() for name, label in task.metrics.items()}
