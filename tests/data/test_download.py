"""CIFAR, Imagenette and ImageNet: opened where they are, fetched where they are not, plain where that fails."""

import tarfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision import datasets
from torchvision.datasets import cifar, imagenette

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.download import prepare_data
from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import IMAGENET_ARCHIVES
from mobileone_core.errors import InputError


def no_network(*arguments: object, **options: object) -> None:
    raise URLError("Temporary failure\nin name resolution")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cifar, imagenette):
        monkeypatch.setattr(module, "download_and_extract_archive", no_network)


@pytest.mark.usefixtures("offline")
def test_cifar_splits_and_batches(cifar_root: Path):
    spec = resolve_data("cifar10", cifar_root)
    splits, other = open_splits(spec, cifar_root, 0), open_splits(spec, cifar_root, 1)
    assert (len(splits.train), len(splits.val), len(splits.test())) == (180, 20, 40)
    assert torch.bincount(splits.val.labels).tolist() == [2] * 10
    assert torch.equal(splits.test().images, other.test().images)
    assert not torch.equal(splits.val.images, other.val.images)
    original = datasets.CIFAR10(cifar_root, train=False)
    assert torch.equal(splits.test().images[7], torch.from_numpy(original.data[7]).permute(2, 0, 1))
    images, labels = next(iter(open_loaders(spec, cifar_root, 0, LoaderOptions(16, "crop_flip")).train))
    assert images.shape == (16, 3, 32, 32)
    assert labels.shape == (16,)


@pytest.mark.usefixtures("offline")
def test_a_broken_cifar_file_is_one_line(cifar_root: Path):
    (cifar_root / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"data_root: .*cifar-10-batches-py is incomplete or broken; remove it"):
        open_splits(resolve_data("cifar10", cifar_root), cifar_root, 0)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenette"])
def test_without_network_the_message_is_one_line(name: str, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        open_splits(resolve_data(name, tmp_path), tmp_path, 0)
    message = str(caught.value)
    assert message.startswith(f"data_root: {tmp_path} holds no {name} and it could not be fetched (")
    assert "Temporary failure in name resolution" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_download_lands_whole(tmp_path: Path, cifar_root: Path, monkeypatch: pytest.MonkeyPatch):
    """The directory appears under its name only once torchvision is done with it."""

    def fetch(url: str, root: str, **options: object) -> None:
        assert not (tmp_path / "data" / "cifar-10-batches-py").exists()
        (cifar_root / "cifar-10-batches-py").rename(Path(root) / "cifar-10-batches-py")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    (tmp_path / "data").mkdir()
    prepare_data("cifar10", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar-10-batches-py"]
    monkeypatch.setattr(cifar, "download_and_extract_archive", no_network)
    prepare_data("cifar10", tmp_path / "data")
    assert len(open_splits(resolve_data("cifar10", tmp_path / "data"), tmp_path / "data", 0).test()) == 40


def test_another_process_may_be_faster(cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fetch(url: str, root: str, **options: object) -> None:
        (tmp_path / "data" / "cifar-10-batches-py").symlink_to(cifar_root / "cifar-10-batches-py")
        raise URLError("too late")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    (tmp_path / "data").mkdir()
    prepare_data("cifar10", tmp_path / "data")
    assert len(open_splits(resolve_data("cifar10", tmp_path / "data"), tmp_path / "data", 0).test()) == 40


def test_an_archive_that_lies_there_is_unpacked(cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """torchvision finds the archive in the directory aside, and fetches nothing."""
    root = tmp_path / "data"
    root.mkdir()
    archive = root / datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar_root / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", None)
    prepare_data("cifar10", root)
    assert sorted(path.name for path in root.iterdir()) == ["cifar-10-batches-py", archive.name]
    assert len(datasets.CIFAR10(root, train=True)) == 200


def test_one_of_two_files_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def fetch(root: str, *, split: str, download: bool) -> None:
        file = Path(root) / f"{split}_32x32.mat"
        calls.append((split, file.exists(), download))
        if not file.exists():
            file.write_text(split)

    monkeypatch.setattr(datasets, "SVHN", fetch)
    (tmp_path / "train_32x32.mat").write_text("mine")
    prepare_data("svhn", tmp_path)
    assert calls == [("train", True, True), ("test", False, True)]  # nothing is fetched twice
    assert [(tmp_path / f"{split}_32x32.mat").read_text() for split in ("train", "test")] == ["mine", "test"]
    prepare_data("svhn", tmp_path)
    assert (len(calls), len(list(tmp_path.iterdir()))) == (2, 2)


def test_broken_imagenet_archives_are_named(tmp_path: Path):
    for archive in IMAGENET_ARCHIVES:
        (tmp_path / archive).write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"ILSVRC2012_devkit_t12.tar.gz is not present .* or is corrupted"):
        open_splits(resolve_data("imagenet", tmp_path), tmp_path, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(IMAGENET_ARCHIVES)


def test_of_imagenet_the_test_set_alone_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unpack(root: Path, split: str) -> None:
        (Path(root) / split).mkdir()

    monkeypatch.setattr(datasets, "ImageNet", unpack)
    prepare_data("imagenet", tmp_path, test_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["val"]
    prepare_data("imagenet", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "val"]


def test_digits_and_folders_need_no_preparing(tmp_path: Path):
    prepare_data("digits", None)
    prepare_data("folder", tmp_path)
