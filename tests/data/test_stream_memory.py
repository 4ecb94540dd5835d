"""Memory stays flat over epochs, in the main process and in the workers; the meter sees a leak in either."""

import ctypes
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.epochs import Moment
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders
from mobileone_core.data.stream import StreamDataset

IMAGES, WORKERS, EARLY, LATE = 240, 2, 3, 7  # epochs
WIDTH, HEIGHT, SIZE = 320, 240, 64
# A leaked image takes 230 kB decoded, 49 kB as it is handed out: 220 and 47 MB over these epochs, of all workers.
TOLERANCE = 12 * 2**20
LIBC = ctypes.CDLL(None)


@pytest.fixture
def loaders(tmp_path: Path) -> Iterator[Loaders]:
    random = np.random.RandomState(0)
    for split, count in (("train", IMAGES), ("val", 2), ("test", 2)):
        for number in range(count):
            path = tmp_path / split / "ab"[number % 2] / f"{number}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.randint(0, 256, (6, 8, 3), dtype=np.uint8))
            coarse.resize((WIDTH, HEIGHT)).save(path)
    spec = resolve_data("folder", tmp_path, image_size=SIZE)
    with open_loaders(spec, tmp_path, 0, LoaderOptions(16, "resized_crop_flip", workers=WORKERS)) as opened:
        yield opened


def growth(loaders: Loaders, kept: list[torch.Tensor] | None = None) -> int:
    """Bytes that the process which grows most takes more after a late epoch than after an early one.

    Resident memory: what a process has for itself also grows when another one that shares libraries with it ends.
    kept, if given, is handed every batch.
    """
    taken = {}
    for epoch in range(LATE):
        loaders.train.set_epoch(epoch, 0.0)
        for images, _ in loaders.train:
            if kept is not None:
                kept.append(images)
        if epoch + 1 in (EARLY, LATE):
            if hasattr(LIBC, "malloc_trim"):  # what earlier tests freed would hide a leak
                LIBC.malloc_trim(0)
            main = psutil.Process()
            pids = [worker.pid for worker in loaders.train.loader._iterator._workers]
            processes = [main, *map(psutil.Process, pids)]
            assert len(processes) == 1 + WORKERS
            taken[epoch + 1] = {process.pid: process.memory_info().rss for process in processes}
    assert taken[EARLY].keys() == taken[LATE].keys()
    return max(taken[LATE][pid] - taken[EARLY][pid] for pid in taken[EARLY])


@pytest.mark.slow
def test_memory_stays_flat_over_epochs(loaders: Loaders):
    assert growth(loaders) < TOLERANCE


@pytest.mark.slow
@pytest.mark.skipif(multiprocessing.get_all_start_methods()[0] != "fork", reason="workers inherit the leak by fork")
def test_a_leak_in_the_workers_is_seen(loaders: Loaders, monkeypatch: pytest.MonkeyPatch):
    honest, kept = StreamDataset.item, []

    def leaking(self: StreamDataset, index: int, moment: Moment):
        with Image.open(self.files.path(index)) as image:
            kept.append(image.convert("RGB").tobytes())
        return honest(self, index, moment)

    monkeypatch.setattr(StreamDataset, "item", leaking)
    assert growth(loaders) > TOLERANCE


@pytest.mark.slow
def test_a_leak_in_the_main_process_is_seen(loaders: Loaders):
    assert growth(loaders, kept=[]) > TOLERANCE
