"""Cost of a training step through train_cell, against a plain PyTorch loop over the same work.

    python tests/benchmarks/bench_training_overhead.py [--k 1] [--rounds 5] [--epochs 4]

Both train the same network on the same batches with the same optimizer and weight average, one thread, in turns.
step: median time from one batch to the next within an epoch. fit: whole runs, validation, checkpoints and start
included on one side, bare epochs on the other. Expect a ratio of step of 1.05 or less at k = 1.
"""

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.optimizer import AveragedNetwork, build_optimizer
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.run import train_cell


@dataclass
class Clock:
    """Notes when batches and epochs end."""

    epochs: list[list[float]] = field(default_factory=lambda: [[]])

    def resumed(self, history: object) -> None:
        """Nothing to note."""

    def batch_finished(self, *_) -> None:
        self.epochs[-1].append(time.perf_counter())

    def epoch_finished(self, record: object) -> None:  # noqa: ARG002
        self.epochs.append([])

    @property
    def steps(self) -> list[float]:
        return [b - a for epoch in self.epochs for a, b in itertools.pairwise(epoch)]


def plain_fit(spec: CellSpec, clock: Clock) -> None:
    """The same training without Lightning, metrics, validation or checkpoints."""
    recipe = spec.recipe
    options = LoaderOptions(recipe.batch_size, recipe.augmentation, (), torch.device("cpu"), workers=1)
    train = open_loaders(spec.data, None, spec.seed, options).train
    network = build_model(spec.model, spec.data.num_classes)
    average = AveragedNetwork(network, recipe.ema_decay)
    average.follow(network)
    optimizer = build_optimizer(network, recipe)
    for epoch in range(recipe.epochs):
        train.set_epoch(epoch, epoch / recipe.epochs)
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels, label_smoothing=recipe.label_smoothing).backward()
            optimizer.step()
            average.update()
            clock.batch_finished()
        clock.epoch_finished(None)


def engine_fit(spec: CellSpec, clock: Clock) -> None:
    with tempfile.TemporaryDirectory() as directory:
        train_cell(spec, execution=Execution("cpu"), data_root=None, directory=Path(directory), observer=clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="ema_decay")
    recipe = replace(recipe_preset("digits"), epochs=arguments.epochs)
    spec = CellSpec(ModelSpec.preset("tiny", k=arguments.k, in_channels=1), recipe=recipe)
    ratios: dict[str, list[float]] = {"step": [], "fit": []}
    for index in range(arguments.rounds + 1):
        clocks, seconds = [], []
        for fit in (engine_fit, plain_fit):
            clock, start = Clock(), time.perf_counter()
            fit(spec, clock)
            clocks.append(statistics.median(clock.steps))
            seconds.append(time.perf_counter() - start)
        if index:  # the first round warms up
            ratios["step"].append(clocks[0] / clocks[1])
            ratios["fit"].append(seconds[0] / seconds[1])
            print(f"round {index}: step {1e3 * clocks[0]:.2f} ms, plain {1e3 * clocks[1]:.2f} ms", flush=True)
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.3f} (from {min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
