"""Resolving a data set by name: cheap, without torch, and plain about what is wrong."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.folders import read_folder
from mobileone_core.data.spec import DATA_SETS, IMAGENET_ARCHIVES, DataSpec
from mobileone_core.errors import InputError

FolderMaker = Callable[[Mapping[str, int]], Path]


def listing(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def test_digits_is_the_default():
    assert resolve_data("digits", None) == DataSpec()


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_entries_are_whole(name: str):
    entry = DATA_SETS[name]
    assert len(entry.mean) == len(entry.std) == entry.channels
    assert all(0 < value < 1 for value in (*entry.mean, *entry.std))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"data: 'imagenet21k' is not allowed; one of digits, mnist, fashion_mnist"):
        resolve_data("imagenet21k", None)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenette", "imagenet", "folder"])
def test_missing_root_names_the_option(name: str, tmp_path: Path):
    with pytest.raises(InputError, match=rf"data_root: {name} needs .* --data-root DIR"):
        resolve_data(name, None)
    with pytest.raises(InputError, match=r"data_root: '.*nowhere' is not allowed; an existing directory"):
        resolve_data(name, tmp_path / "nowhere")


def test_bad_image_size():
    with pytest.raises(InputError, match="image_size: 0 is not allowed"):
        resolve_data("digits", None, image_size=0)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100), ("imagenette", 10)])
def test_what_can_be_downloaded_resolves_without_data_and_writes_nothing(name: str, classes: int, tmp_path: Path):
    spec = resolve_data(name, tmp_path, image_size=48)
    assert (spec.num_classes, spec.channels, spec.image_size) == (classes, 3, 48)
    assert listing(tmp_path) == []


def test_folder_without_data_names_directory_and_layout(tmp_path: Path):
    (tmp_path / "ant").mkdir()
    with pytest.raises(InputError) as caught:
        resolve_data("folder", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"data_root: {tmp_path} holds no image folder; expected train/CLASS/IMAGE")
    assert "\n" not in message


def test_folder_counts_classes_and_writes_nothing(make_folder: FolderMaker):
    root = make_folder({"train": 4, "val": 2})
    before = listing(root)
    spec = resolve_data("folder", root)
    assert (spec.name, spec.num_classes, spec.channels, spec.image_size) == ("folder", 2, 3, 224)
    assert len(spec.fingerprint) == 12
    assert listing(root) == before


def test_fingerprint_follows_names_and_sizes_only(make_folder: FolderMaker):
    root = make_folder({"train": 4, "val": 2})
    image = root / "train" / "ant" / "01.png"
    first = resolve_data("folder", root).fingerprint
    os.utime(image, (0, 0))
    moved = root.rename(root.with_name("elsewhere"))
    assert resolve_data("folder", moved).fingerprint == first
    image = moved / "train" / "ant" / "01.png"
    image.write_bytes(image.read_bytes() + b"\0")
    longer = resolve_data("folder", moved).fingerprint
    assert longer != first
    image.rename(image.with_name("10.png"))
    assert resolve_data("folder", moved).fingerprint not in (first, longer)


def test_classes_must_agree_and_hold_images(make_folder: FolderMaker):
    root = make_folder({"train": 2, "val": 2})
    (root / "val" / "cat").mkdir()
    with pytest.raises(InputError, match=r"data_root: .*val and train/ differ in class 'cat'"):
        resolve_data("folder", root)
    (root / "train" / "cat").mkdir()
    with pytest.raises(InputError, match=r"data_root: .*train/cat holds no image \(.jpg"):
        resolve_data("folder", root)


def test_listing_equals_torchvisions(make_folder: FolderMaker):
    from torchvision.datasets import ImageFolder

    root = make_folder({"train": 5, "val": 2})
    (root / "train" / "ant" / "nested").mkdir()
    (root / "train" / "ant" / "00.jpeg").rename(root / "train" / "ant" / "nested" / "naïve.JPG")
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    files = read_folder(root)["train"]
    ours = [(str(files.path(index)), int(files.labels[index])) for index in range(len(files))]
    assert ours == ImageFolder(root / "train").samples


def imagenet_folders(root: Path, classes: int, splits: tuple[str, ...] = ("train", "val")) -> None:
    for split in splits:
        for label in range(classes):
            (root / split / f"n{label:08d}").mkdir(parents=True)


def test_imagenet_without_data_says_what_torchvision_expects(tmp_path: Path):
    with pytest.raises(InputError) as caught:
        resolve_data("imagenet", tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "cannot be downloaded" in message
    assert all(archive in message for archive in IMAGENET_ARCHIVES)


def test_imagenet_resolves_from_folders_or_archives(tmp_path: Path):
    imagenet_folders(tmp_path / "folders", 1000)
    spec = resolve_data("imagenet", tmp_path / "folders")
    assert (spec.num_classes, spec.image_size, spec.val_fraction, spec.fingerprint) == (1000, 224, 0.01, "")
    (tmp_path / "archives").mkdir()
    for archive in IMAGENET_ARCHIVES:
        (tmp_path / "archives" / archive).touch()
    assert resolve_data("imagenet", tmp_path / "archives") == spec


def test_imagenets_test_set_alone_resolves_as_the_whole(tmp_path: Path):
    imagenet_folders(tmp_path, 1000, ("val",))
    assert resolve_data("imagenet", tmp_path, test_only=True) == DataSpec("imagenet", 224, 1000, 3, val_fraction=0.01)
    with pytest.raises(InputError, match=r"holds no ImageNet, .* expected train/ and val/ with"):
        resolve_data("imagenet", tmp_path)
    (tmp_path / "val" / "n00000999").rmdir()
    with pytest.raises(InputError, match=r"val holds 999 classes, ImageNet has 1000"):
        resolve_data("imagenet", tmp_path, test_only=True)


def test_imagenets_test_set_alone_resolves_from_its_archives(tmp_path: Path):
    with pytest.raises(InputError, match=r"expected val/ .* archives ILSVRC2012_devkit\S+, ILSVRC2012_img_val.tar$"):
        resolve_data("imagenet", tmp_path, test_only=True)
    for archive in ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_val.tar"):
        (tmp_path / archive).touch()
    assert resolve_data("imagenet", tmp_path, test_only=True).num_classes == 1000


def test_a_folders_test_set_alone_needs_two_classes_and_those_of_train(make_folder: FolderMaker):
    root = make_folder({"val": 2})
    spec = resolve_data("folder", root, test_only=True)
    assert (spec.num_classes, len(spec.fingerprint)) == (2, 12)
    (root / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match=r"val and train/ differ in class 'ant'"):
        resolve_data("folder", root, test_only=True)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val" / "ant")
    with pytest.raises(InputError, match=r"holds no test images; expected test/CLASS/IMAGE, val/CLASS/IMAGE or"):
        resolve_data("folder", root, test_only=True)


def test_part_of_imagenet_is_not_imagenet(tmp_path: Path):
    imagenet_folders(tmp_path, 3)
    with pytest.raises(InputError, match=r"train holds 3 classes, ImageNet has 1000; .* --data folder"):
        resolve_data("imagenet", tmp_path)


def test_resolving_imports_neither_torch_nor_scikit_learn():
    code = "import sys; from mobileone_core.data.catalog import resolve_data; resolve_data('digits', None);"
    code += "print([name for name in ('torch', 'torchvision', 'sklearn', 'PIL') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
