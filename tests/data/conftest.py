"""A small image folder in ImageNet's layout, and a fake of torchvision's CIFAR-10 directory."""

import hashlib
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

sys.path.insert(0, str(Path(__file__).parent))

FolderMaker = Callable[[Mapping[str, int]], Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """Makes root/split/{ant,bee}/*.png|jpeg with the given number of images a class in each split."""

    def make(counts: Mapping[str, int]) -> Path:
        random = np.random.RandomState(0)
        for split, count in counts.items():
            for label, name in enumerate(("ant", "bee")):
                folder = tmp_path / "images" / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = random.randint(0, 128, (20 + number, 30, 3)) + 127 * label
                    suffix = "png" if number % 2 else "jpeg"
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.{suffix}")
        return tmp_path / "images"

    return make


@pytest.fixture
def cifar_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with cifar-10-batches-py as torchvision reads it: 200 training and 40 test images, 10 classes."""
    folder = tmp_path / "cifar" / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    random = np.random.RandomState(1)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()

    def batch(count: int) -> dict[str, object]:
        pixels = random.randint(0, 256, (count, 3 * 32 * 32)).astype(np.uint8)
        return {"data": pixels, "labels": [number % 10 for number in range(count)]}

    train = [[f"data_batch_{part}", write(f"data_batch_{part}", batch(40))] for part in range(1, 6)]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", write("test_batch", batch(40))]])
    names = write("batches.meta", {"label_names": [str(number) for number in range(10)]})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": names})
    return folder.parent
