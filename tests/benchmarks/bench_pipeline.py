"""Speed of the input pipeline against that of its own parts, on a generated folder of 20,000 JPEGs.

    python tests/benchmarks/bench_pipeline.py [--images N] [--directory DIR] [--rounds N] [--autoaugment S] ...

Images a second, in turns, over the same images in as many processes as there are cores: decoding alone as
torchvision's ImageFolder does it, decoding and the training transforms in a bare loop, and the whole pipeline, an
epoch from its first request to its last normalized batch. Expect a median ratio of pipeline to bare loop of 0.9 or
more. On a busy machine the ratio of processor times, bare loop to pipeline, says more. Then training behind the
pipeline, against the same steps on one batch, and the memory of all processes after each of some whole epochs.
Files are read from the page cache: storage is not measured.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets.folder import pil_loader

from mobileone_core.data.augment import Normalize
from mobileone_core.data.epochs import EpochPlan
from mobileone_core.data.folders import ImageFiles, read_folder
from mobileone_core.data.spec import IMAGENET_MEAN, IMAGENET_STD
from mobileone_core.data.stream import StreamLoader, image_transform
from mobileone_core.model.network import build_model

CORES = len(os.sched_getaffinity(0))
CLASSES, PICTURES, SIDE = 20, 200, 800
AUGMENTATION, IMAGE_SIZE = "resized_crop_flip", 224
CPU = torch.device("cpu")
MIB = 2**20


@dataclass(frozen=True)
class Phase:
    """The whole training at one resolution and one strength of AutoAugment."""

    autoaugment: float
    until: float = 1.0
    image_size: int = IMAGE_SIZE


@dataclass
class PartPlan(EpochPlan):
    """An EpochPlan that reads so many of an epoch's batches alone."""

    part: int = 1

    def __len__(self) -> int:
        return min(self.part, super().__len__())

    def batches(self) -> tuple[torch.Tensor, ...]:
        return tuple(super().batches()[: len(self)])


def picture(seed: int) -> NDArray[np.uint8]:
    """Noise with a photograph's falling spectrum and related colours, uint8 (SIDE, SIDE, 3)."""
    draws = np.random.RandomState(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    waves = draws.standard_normal((2, 3, *frequency.shape))
    planes = np.fft.irfft2((waves[0] + 1j * waves[1]) * frequency**-1.2, s=(SIDE, SIDE))
    light, red, blue = (planes - planes.mean((1, 2), keepdims=True)) / planes.std((1, 2), keepdims=True)
    colours = np.stack((light + 0.3 * red, light - 0.1 * red - 0.1 * blue, light + 0.3 * blue), -1)
    return np.clip(120 + 50 * colours, 0, 255).astype(np.uint8)


def write_crops(directory: Path, images: int, seed: int) -> None:
    """One picture's share of the images: crops of about 500 x 375 pixels, a third of them upright."""
    pixels, draws = picture(seed), random.Random(seed)
    for number in range(seed, images, PICTURES):
        sides = [draws.randint(300, 450), draws.randint(400, 600)]
        height, width = sides if draws.random() < 2 / 3 else reversed(sides)
        top, left = draws.randint(0, SIDE - height), draws.randint(0, SIDE - width)
        path = directory / f"class{number % CLASSES:02d}" / f"{number:06d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop = Image.fromarray(pixels[top : top + height, left : left + width])
        crop.save(path, quality=draws.randint(85, 95))


def training_files(directory: Path, images: int) -> ImageFiles:
    """The training images of a generated folder; generated where they do not lie there yet."""
    train = directory / "train"
    if sum(1 for _ in train.glob("*/*.jpeg")) != images:
        with multiprocessing.Pool(CORES) as pool:
            pool.map(partial(write_crops, train, images), range(PICTURES), chunksize=1)
            pool.map(partial(write_crops, directory / "val", CLASSES), range(CLASSES), chunksize=1)
    return read_folder(directory)["train"]


def bare(files: ImageFiles, autoaugment: float | None, indices: list[int]) -> None:
    """Decode some images, and transform them unless autoaugment is None."""
    transform = None if autoaugment is None else image_transform(AUGMENTATION, IMAGE_SIZE, autoaugment)
    for index in indices:
        image = pil_loader(files.path(index))
        if transform:
            transform(image)


def read(batches: Iterable[object]) -> None:
    """Go through some batches."""
    for _ in batches:
        pass


def processes() -> list[psutil.Process]:
    """This process and all that it started."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def processor_seconds() -> float:
    """Processor time that all processes have used so far, to a hundredth of a second each."""
    return sum(sum(process.cpu_times()[:2]) for process in processes())


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a piece of work takes, and seconds of processors."""
    used, start = processor_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - start, processor_seconds() - used


def loader_of(files: ImageFiles, arguments: argparse.Namespace, part: int) -> StreamLoader:
    """The pipeline as training reads it, some batches an epoch."""
    phases = [Phase(arguments.autoaugment)]
    plan = PartPlan(len(files), 0, arguments.batch_size, IMAGE_SIZE, phases, shuffle=True, part=part)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD, CPU)
    transform = partial(image_transform, AUGMENTATION)
    return StreamLoader(files, normalize, transform, plan, CORES)


def compare(loader: StreamLoader, files: ImageFiles, rounds: int, autoaugment: float) -> None:
    """Print images a second of the three ways round by round, and the ratios of pipeline and bare loop."""
    ratios: dict[str, list[float]] = {"speed": [], "processor time": []}
    print("round   decode     bare  pipeline  images/s   pipeline / bare   of processor time    load")
    with multiprocessing.Pool(CORES, torch.set_num_threads, (1,)) as pool:
        for number in range(rounds + 1):
            loader.set_epoch(number, 0.0)
            batches = [batch.tolist() for batch in loader.plan.batches()]
            ways: dict[str, Callable[[], object]] = {
                "decode": partial(pool.map, partial(bare, files, None), batches, 1),
                "bare": partial(pool.map, partial(bare, files, autoaugment), batches, 1),
                "pipeline": partial(read, loader),
            }
            taken = {name: measure(ways[name]) for name in random.sample(list(ways), len(ways))}
            if number:  # the first round warms up
                for values, bare_time, time_ in zip(ratios.values(), taken["bare"], taken["pipeline"], strict=True):
                    values.append(bare_time / time_)
                decode, plain, whole = (sum(map(len, batches)) / taken[name][0] for name in ways)
                pair = " ".join(f"{values[-1]:17.3f}" for values in ratios.values())
                print(
                    f"{number:5d} {decode:8.0f} {plain:8.0f} {whole:9.0f} {pair} {os.getloadavg()[0]:17.2f}", flush=True
                )
    for name, values in ratios.items():
        print(f"median ratio of {name}: {statistics.median(values):.3f} (from {min(values):.3f} to {max(values):.3f})")


def train(loader: StreamLoader, variant: str, steps: int) -> None:
    """Print images a second of training behind the pipeline, and of the same steps on one batch."""
    network = build_model(variant, CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def run(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()

    loader.set_epoch(0, 0.0)
    first = next(iter(loader))
    run([first])  # warms up
    speeds: dict[str, list[float]] = {"behind the pipeline": [], "on one batch": []}
    for _ in range(2):
        works = partial(run, itertools.islice(loader, steps)), partial(run, [first] * steps)
        for values, work in zip(speeds.values(), works, strict=True):
            values.append(steps * len(first[1]) / measure(work)[0])
    for name, values in speeds.items():
        figures = ", ".join(f"{value:.1f}" for value in values)
        print(f"training {variant} {name}: {figures} images/s, {steps} steps each")


def watch_memory(loader: StreamLoader, epochs: int) -> None:
    """Print the resident memory of this process and of each worker after each epoch."""
    for epoch in range(epochs):
        loader.set_epoch(epoch, 0.0)
        read(loader)
        resident, *workers = (process.memory_info().rss / MIB for process in processes())
        print(
            f"epoch {epoch + 1}: main {resident:.0f} MiB, workers", *(f"{worker:.0f}" for worker in workers), flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--directory", type=Path, help="kept, and used again; else a temporary one")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--round-images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--autoaugment", type=float, default=0.0, help="strength, from 0 to 1")
    parser.add_argument("--variant", default="s0")
    parser.add_argument("--steps", type=int, default=3, help="of training; 0 for none")
    parser.add_argument("--epochs", type=int, default=4, help="whole ones whose memory is watched; 0 for none")
    arguments = parser.parse_args()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as temporary:
        files = training_files(arguments.directory or Path(temporary), arguments.images)
        part = max(1, arguments.round_images // arguments.batch_size)
        with closing(loader_of(files, arguments, part)) as loader:
            compare(loader, files, arguments.rounds, arguments.autoaugment)
            if arguments.steps:
                train(loader, arguments.variant, arguments.steps)
        with closing(loader_of(files, arguments, len(files))) as loader:
            watch_memory(loader, arguments.epochs)


if __name__ == "__main__":
    main()
