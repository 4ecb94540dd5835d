"""A second task: regress mean and spread of an image's pixels, with its own targets, head, loss and metric."""

from torch import nn
from torchmetrics import MeanAbsoluteError, MetricCollection

from mobileone_core.model.network import build_model
from mobileone_core.training.tasks import TaskSpec
from mobileone_core.training.tasks.task import Task

SPEC = TaskSpec("toy_task:Toy", ("digits",), {"closeness": "closeness"}, {"digits": "digits"})


class Brightness(nn.Module):
    """Mean and spread per image, (B,) each, from the backbone's last map."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.backbone.head = nn.Identity()
        self.mean = nn.Linear(12, 1)
        self.spread = nn.Linear(12, 1)

    def forward(self, images):
        features = self.backbone(images).mean((2, 3))
        return {"mean": self.mean(features).flatten(), "spread": self.spread(features).flatten()}


class ToyLoaders:
    """Digits with their brightness in place of their label."""

    def __init__(self, loaders):
        self.train, self.val, self.test = (Relabelled(loaders, stage) for stage in ("train", "val", "test"))
        self.close = loaders.close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Relabelled:
    def __init__(self, loaders, stage):
        self.loaders, self.stage = loaders, stage

    def __getattr__(self, name):
        return getattr(getattr(self.loaders, self.stage), name)

    def __len__(self):
        return len(getattr(self.loaders, self.stage))

    def __iter__(self):
        for images, _ in getattr(self.loaders, self.stage):
            yield images, {"mean": images.mean((1, 2, 3)), "spread": images.std((1, 2, 3))}


class Closeness(MeanAbsoluteError):  # noqa: N818
    """1 / (1 + error) of the mean: a fraction, higher is better."""

    def update(self, outputs, targets):
        super().update(outputs["mean"], targets["mean"])

    def compute(self):
        return 1 / (1 + super().compute())


class Toy(Task):
    """Absolute errors of mean and spread."""

    def open_data(self, data_root, options):
        return ToyLoaders(super().open_data(data_root, options))

    def build_network(self, execution="branches"):
        return Brightness(build_model(self.spec.model, 1, execution))

    def loss(self, outputs, targets):
        return sum((outputs[name] - targets[name]).abs().mean() for name in ("mean", "spread"))

    def metrics(self):
        return MetricCollection({"closeness": Closeness()})

    def tensors(self, outputs):
        return list(outputs.values())
