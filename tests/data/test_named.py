"""Data sets that torchvision reads: miniature files in its formats go through every line of the reader."""

import gzip
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from torch import Tensor
from torchvision import datasets
from torchvision.datasets import mnist, svhn

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.download import prepare_data
from mobileone_core.data.sets import open_splits, open_test_set, read_named
from mobileone_core.data.spec import DATA_SETS, IDX_FILES
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec

IDX_SETS = [name for name, entry in DATA_SETS.items() if entry.files == IDX_FILES]
FASHION = Path(os.environ.get("FASHION_MNIST", Path(__file__).parents[2] / "../shared/data/fashion_mnist"))
IdxMaker = Callable[..., tuple[Tensor, Tensor]]


def idx(array: NDArray[np.uint8]) -> bytes:
    """The array in the format of MNIST: a magic number, big-endian sizes, bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_split(path: Callable[[str], Path], count: int, seed: int) -> tuple[Tensor, Tensor]:
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for file, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx(array)
        target = path(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long()


@pytest.fixture
def make_idx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdxMaker:
    """Writes 40 training and 20 test images as a set of MNIST's format, whose checksums torchvision then expects."""

    def make(name: str, folder: Path = tmp_path, suffix: str = ".gz") -> tuple[Tensor, Tensor]:
        write_split(lambda file: folder / f"train-{file}-ubyte{suffix}", 40, 0)
        test = write_split(lambda file: folder / f"t10k-{file}-ubyte{suffix}", 20, 1)
        if suffix:
            sums = [(file, hashlib.md5((folder / file).read_bytes()).hexdigest()) for file in IDX_FILES]
            monkeypatch.setattr(getattr(datasets, DATA_SETS[name].reader), "resources", sums)
        return test

    return make


@pytest.mark.parametrize("name", IDX_SETS)
@pytest.mark.parametrize("layout", ["directory", "torchvision"])
def test_idx_files_are_read_in_both_layouts(name: str, layout: str, tmp_path: Path, make_idx: IdxMaker):
    folder = tmp_path if layout == "directory" else tmp_path / DATA_SETS[name].directory / "raw"
    images, labels = make_idx(name, folder)
    spec = resolve_data(name, tmp_path)
    splits = open_splits(spec, tmp_path, 0)
    assert (len(splits.train), len(splits.val)) == (30, 10)
    assert torch.equal(splits.test().images, images)
    assert torch.equal(splits.test().labels, labels)
    assert torch.equal(open_test_set(resolve_data(name, tmp_path, test_only=True), tmp_path).images, images)
    assert {path.suffix for path in folder.iterdir()} == {".gz"}


def test_unpacked_files_without_a_published_sum_are_read(tmp_path: Path, make_idx: IdxMaker):
    images, _ = make_idx("kmnist", tmp_path / "KMNIST" / "raw", suffix="")
    assert torch.equal(read_named("kmnist", tmp_path, train=False)[0], images)


def test_unpacked_files_of_another_set_are_refused(tmp_path: Path, make_idx: IdxMaker, monkeypatch: pytest.MonkeyPatch):
    """The sums of KMNIST's unpacked files are not published; those of MNIST's, left in its place, are."""
    make_idx("kmnist", tmp_path / "KMNIST" / "raw", suffix="")
    content = (tmp_path / "KMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    monkeypatch.setitem(DATA_SETS["mnist"].unpacked, "t10k-images-idx3-ubyte", hashlib.md5(content).hexdigest())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte is not the file of kmnist"):
        read_named("kmnist", tmp_path, train=False)


@pytest.mark.parametrize("damage", ["cut", "altered", "repacked", "not a gzip"])
def test_a_damaged_archive_is_one_line(damage: str, tmp_path: Path, make_idx: IdxMaker):
    """Repacked content without a published sum cannot be told from altered content."""
    make_idx("fashion_mnist")
    file = tmp_path / IDX_FILES[2]
    content = file.read_bytes()
    if damage == "repacked":
        file.write_bytes(gzip.compress(gzip.decompress(content), 1, mtime=7))
    else:
        changed = bytes([content[50] ^ 1])
        file.write_bytes(
            {"cut": content[:-99], "altered": content[:50] + changed + content[51:]}.get(damage, b"nothing")
        )
    message = f"data_root: {file} is not the file of fashion_mnist: cut short, altered, or of another data set"
    for read in (prepare_data, partial(read_named, train=True)):
        with pytest.raises(InputError) as caught:
            read("fashion_mnist", tmp_path)
        assert str(caught.value) == message


def test_content_with_the_published_sum_is_read_however_it_is_packed(
    tmp_path: Path, make_idx: IdxMaker, monkeypatch: pytest.MonkeyPatch
):
    images, _ = make_idx("fashion_mnist")
    monkeypatch.setattr(datasets.FashionMNIST, "resources", [(file, "another sum") for file in IDX_FILES])
    for file in IDX_FILES:
        content = gzip.decompress((tmp_path / file).read_bytes())
        published = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(DATA_SETS["fashion_mnist"].unpacked, file.removesuffix(".gz"), published)  # type: ignore[arg-type]
    assert torch.equal(read_named("fashion_mnist", tmp_path, train=False)[0], images)
    altered = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    altered.parent.mkdir(parents=True)
    altered.write_bytes(content[:-1])
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte is not the file of fashion_mnist"):
        read_named("fashion_mnist", tmp_path, train=False)


def test_files_of_another_set_are_refused(tmp_path: Path, make_idx: IdxMaker):
    make_idx("kmnist")
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz is not the file of mnist"):
        read_named("mnist", tmp_path, train=True)


def test_a_missing_file_is_named(tmp_path: Path, make_idx: IdxMaker):
    make_idx("mnist")
    (tmp_path / IDX_FILES[3]).unlink()
    with pytest.raises(InputError, match=f"data_root: {tmp_path} holds mnist without t10k-labels-idx1-ubyte.gz"):
        open_splits(resolve_data("mnist", tmp_path), tmp_path, 0)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (20, 19, "20 images, 19 labels"),
        (0, 0, "KMNIST is incomplete or broken"),
        (20, 20, "label 10"),
    ],
)
def test_counts_and_labels_must_fit(images: int, labels: int, message: str, tmp_path: Path, make_idx: IdxMaker):
    make_idx("kmnist", suffix="")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((images, 28, 28), np.uint8)))
    values = np.full(labels, 10 if message == "label 10" else 1, np.uint8)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(values))
    with pytest.raises(InputError, match=message):
        read_named("kmnist", tmp_path, train=False)


def test_an_unpacked_file_that_is_cut_short_is_one_line(tmp_path: Path, make_idx: IdxMaker):
    make_idx("kmnist", suffix="")
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(InputError, match="KMNIST is incomplete or broken; remove it"):
        read_named("kmnist", tmp_path, train=False)


def test_emnist_is_read_upright(tmp_path: Path):
    raw = tmp_path / "EMNIST" / "raw"
    for part, count in (("train", 94), ("test", 47)):
        images, _ = write_split(lambda file, part=part: raw / f"emnist-balanced-{part}-{file}-ubyte", count, count)  # type: ignore[misc]
        labels = (np.arange(count) % 47).astype(np.uint8)
        (raw / f"emnist-balanced-{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    read, numbers = read_named("emnist", tmp_path, train=False)
    assert torch.equal(read, images.mT)
    assert numbers.tolist() == list(range(47))
    assert len(datasets.EMNIST.classes_split_dict["balanced"]) == 47
    assert tuple(datasets.EMNIST.classes_split_dict["balanced"]) == DATA_SETS["emnist"].class_names


def test_svhn_and_stl10_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (32, 32, 3, 20)).astype(np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.arange(20)[:, None] % 10 + 1})
    checked = {**svhn.SVHN.split_list, "test": ["", "test_32x32.mat", _md5(tmp_path / "test_32x32.mat")]}
    monkeypatch.setattr(svhn.SVHN, "split_list", checked)
    images, labels = read_named("svhn", tmp_path, train=False)
    assert torch.equal(images[3], torch.from_numpy(pixels[..., 3]).permute(2, 0, 1))
    assert labels.tolist() == [*range(1, 10), 0] * 2

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    stored = random.randint(0, 256, (20, 3, 96, 96)).astype(np.uint8)
    (folder / "test_X.bin").write_bytes(stored.tobytes())
    (folder / "test_y.bin").write_bytes((np.arange(20) % 10 + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join(DATA_SETS["stl10"].class_names))
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda _: True)
    images, labels = read_named("stl10", tmp_path, train=False)
    assert torch.equal(images[5], torch.from_numpy(stored[5]).mT)
    assert labels.tolist() == [*range(10)] * 2


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "mnist"])
def test_class_names_are_torchvisions(name: str):
    names = getattr(datasets, DATA_SETS[name].reader).classes
    assert [text.partition(" - ")[0] for text in names] == list(DATA_SETS[name].class_names)


@pytest.mark.parametrize("name", ["mnist", "svhn"])
def test_without_files_and_network_the_message_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(mnist, "download_and_extract_archive", no_network)
    monkeypatch.setattr(svhn, "download_url", no_network)
    with pytest.raises(InputError) as caught:
        open_splits(resolve_data(name, tmp_path), tmp_path, 0)
    assert str(caught.value).startswith(
        f"data_root: {tmp_path} holds no {name} and it could not be fetched (no network)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variant", ["tiny", "small", "s0"])
def test_networks_keep_more_than_a_pixel_of_28(variant: str):
    assert 28 / ModelSpec.preset(variant, in_channels=1).fitted_to(28).reduction > 1


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Fashion-MNIST; name its directory in FASHION_MNIST")
def test_the_real_files_have_the_published_content():
    images, labels = read_named("fashion_mnist", FASHION, train=True)
    assert images.shape == (60000, 1, 28, 28)
    assert labels.bincount().tolist() == [6000] * 10
    entry = DATA_SETS["fashion_mnist"]
    pixels = images.float() / 255
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (entry.mean[0], entry.std[0])


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
