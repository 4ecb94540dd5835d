"""The images of an int8 export: those that ranges are measured on, and those that count what it costs."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileone_core.cli.commands.source import NetworkSource
from mobileone_core.cli.options.export import Export
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.classes import shown_names
from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate
from mobileone_core.training.quantized import BATCH, calibration_batches
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.task import build_task

CALIBRATED = 16  # images per batch of the calibration, all of whose activations ONNX Runtime holds in memory
TESTED = 500  # test images at most, evenly spaced


class CalibrationData:
    """Training and test images of the data set or directory in options.calibration, read as the network reads them.

    Raises InputError if they are missing, or have other channels or classes than the network.
    """

    def __init__(self, options: Export, source: NetworkSource, preprocessing: Preprocessing) -> None:
        network, self.images = source.network, options.calibration_images
        name, _, root = options.calibration.partition("=")
        if name not in DATA_SETS:
            name, root = "folder", options.calibration
        self.root = Path(root) if root else None
        has_root = self.root is not None or name == "digits"
        require(has_root, "calibration", options.calibration, f"{name}=DIR, with the directory of its images")
        try:
            self.data = resolve_data(name, self.root, preprocessing.image_size)
            names = shown_names(self.data, self.root)
        except InputError as error:
            raise InputError(f"calibration: {str(error).removeprefix('data_root: ')}") from error
        channels, classes = network.spec.in_channels, network.num_classes
        fits = (self.data.channels, self.data.num_classes) == (channels, classes)
        fits = fits and (not names or not source.class_names or names == source.class_names)
        allowed = f"images of {channels} channels and the network's {classes} classes"
        require(fits, "calibration", options.calibration, allowed)
        normalization = preprocessing.mean, preprocessing.std
        self.loading = LoaderOptions(CALIBRATED, "none", workers=torch.get_num_threads(), normalization=normalization)
        self.task = build_task(CellSpec(network.spec, self.data, Recipe(label_smoothing=0.0)))

    def batches(self) -> Iterator[Tensor]:
        """The calibration images, (B, C, S, S) normalized. Raises InputError if they are too few or of one colour."""
        with self._open(self.loading) as loaders:
            yield from calibration_batches(loaders.train, self.images)

    def line(self, before: nn.Module, after: nn.Module) -> str:
        """The line on top-1 of the network before and after, on TESTED test images or fewer."""
        with self._open(self.loading) as loaders:
            step = -(-loaders.test.plan.count // TESTED)
        with self._open(replace(self.loading, batch_size=BATCH * step, share=Share(0, step))) as loaders:
            measure = partial(evaluate, task=self.task, batches=loaders.test, stage="test", device=torch.device("cpu"))
            first, second = measure(before), measure(after)
        shares = [f"{100 * results['test/top1']:.2f} % in" for results in (first, second)]
        title = f"{self.data.name} {self.root or ''}".strip()
        return f"top-1       {shares[0]} float32, {shares[1]} int8 ({first['test/images']:.0f} test images, {title})"

    def _open(self, loading: LoaderOptions) -> Loaders:
        return open_loaders(self.data, self.root, 0, loading)
