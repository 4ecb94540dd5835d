"""Image folders through workers: splits, independence of the number of workers, phases, corrupt files."""

import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.autoaugment import autoaugment
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.epochs import Moment
from mobileone_core.data.folders import ImageFiles
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders, open_test
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import IMAGENET_MEAN, IMAGENET_STD
from mobileone_core.data.stream import image_transform
from mobileone_core.errors import InputError

FolderMaker = Callable[[Mapping[str, int]], Path]
Opener = Callable[..., Loaders]
SIZE = 16


@dataclass(frozen=True)
class Phase:
    until: float
    image_size: int
    autoaugment: float


@pytest.fixture
def folder_loaders() -> Iterator[Opener]:
    """Opens the loaders of a folder, and closes them after the test."""
    with ExitStack() as stack:

        def opened(root: Path, seed: int = 0, augmentation: str = "resized_crop_flip", **changes: object) -> Loaders:
            spec = resolve_data("folder", root, image_size=SIZE)
            return stack.enter_context(open_loaders(spec, root, seed, LoaderOptions(4, augmentation, **changes)))

        yield opened


def epoch(loaders: Loaders, number: int, progress: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    loaders.train.set_epoch(number, progress)
    batches = list(loaders.train)
    assert len(batches) == len(loaders.train)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def names(source: object) -> set[bytes]:
    assert isinstance(source, ImageFiles)
    return set(source.names.tolist())


def splits(root: Path, seed: int = 0):
    return open_splits(resolve_data("folder", root, image_size=SIZE), root, seed)


def test_without_test_directory_val_is_the_test_set(make_folder: FolderMaker):
    root = make_folder({"train": 10, "val": 3})
    first, other = splits(root, 0), splits(root, 1)
    assert first.test().directory == other.test().directory == root / "val"
    assert len(first.test()) == 6
    assert first.train.directory == first.val.directory == root / "train"
    assert (len(first.train), len(first.val)) == (18, 2)
    assert not names(first.train) & names(first.val)
    assert len(names(first.train) | names(first.val)) == 20
    assert len({frozenset(names(splits(root, seed).val)) for seed in range(8)}) > 1
    assert names(splits(root, 0).val) == names(first.val)


def test_with_test_directory_val_is_validation(make_folder: FolderMaker):
    root = make_folder({"train": 4, "val": 3, "test": 2})
    for seed in (0, 1):
        found = splits(root, seed)
        assert [part.directory.name for part in (found.train, found.val, found.test())] == ["train", "val", "test"]
        assert [len(part) for part in (found.train, found.val, found.test())] == [8, 6, 4]


def test_train_and_test_alone_carve_validation(make_folder: FolderMaker):
    root = make_folder({"train": 10, "test": 2})
    found = splits(root)
    assert (len(found.train), len(found.val), len(found.test())) == (18, 2, 4)
    assert found.test().directory == root / "test"


@pytest.mark.parametrize("counts", [{"val": 3}, {"test": 2}, {"val": 3, "test": 2}])
def test_the_test_set_alone_is_that_of_the_whole(make_folder: FolderMaker, counts: dict[str, int]):
    root, options = make_folder({"train": 4, **counts}), LoaderOptions(3, "none", crop=0.9)
    with open_loaders(resolve_data("folder", root, SIZE), root, 0, options) as loaders:
        whole = list(loaders.test)
    for _ in range(2):  # beside train/, then without it
        alone = open_test(resolve_data("folder", root, SIZE, test_only=True), root, options)
        for one, other in zip(alone, whole, strict=True):
            assert all(map(torch.equal, one, other))
        shutil.rmtree(root / "train", ignore_errors=True)


def test_a_test_set_that_changed_or_is_a_part_is_refused(make_folder: FolderMaker):
    root, options = make_folder({"val": 2}), LoaderOptions(3, "none")
    spec = resolve_data("folder", root, test_only=True)
    (root / "val" / "ant" / "00.jpeg").rename(root / "val" / "ant" / "99.jpeg")
    with pytest.raises(InputError, match="not the folder that was planned"):
        open_test(spec, root, options)
    root.rename(root.parent / "imagenette2")
    with pytest.raises(InputError, match=r"imagenette2' is not allowed; 10 folders of classes in its val/"):
        open_test(resolve_data("imagenette", root.parent, test_only=True), root.parent, options)


def test_a_part_of_imagenette_is_refused_before_its_training(make_folder: FolderMaker):
    """Other classes than the network's outputs would train without a word, or end in a traceback."""
    root = make_folder({"train": 2, "val": 2})
    root.rename(root.parent / "imagenette2")
    with pytest.raises(InputError, match=r"imagenette2' is not allowed; 10 folders of classes in its val/"):
        open_loaders(resolve_data("imagenette", root.parent), root.parent, 0, LoaderOptions(3, "none"))


def test_a_changed_folder_is_refused(make_folder: FolderMaker):
    root = make_folder({"train": 4, "val": 2})
    spec = resolve_data("folder", root)
    (root / "train" / "ant" / "00.jpeg").rename(root / "train" / "ant" / "99.jpeg")
    with pytest.raises(InputError, match="not the folder that was planned"):
        open_splits(spec, root, 0)


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop_flip", "resized_crop_flip"])
def test_an_epoch_depends_on_seed_and_number_alone(make_folder: FolderMaker, augmentation: str, folder_loaders: Opener):
    root = make_folder({"train": 6, "val": 2})
    before = torch.get_rng_state()
    loaders = folder_loaders(root, 0, augmentation)
    first, second = epoch(loaders, 0), epoch(loaders, 1)
    assert first[0].shape == (8, 3, SIZE, SIZE)
    assert first[0].dtype == torch.float32
    assert not torch.equal(first[0], second[0])
    assert torch.equal(epoch(folder_loaders(root, 0, augmentation), 1)[0], second[0])
    assert not torch.equal(epoch(folder_loaders(root, 5, augmentation), 0)[0], first[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_change_nothing_and_live_through_phases(make_folder: FolderMaker, folder_loaders: Opener):
    root = make_folder({"train": 8, "val": 3})
    phases = (Phase(0.5, 8, 0.0), Phase(1.0, SIZE, 1.0))
    here, away = folder_loaders(root, phases=phases), folder_loaders(root, phases=phases, workers=2)
    for number, progress, size in ((0, 0.0, 8), (1, 0.25, 8), (2, 0.5, SIZE), (3, 0.75, SIZE)):
        ours, theirs = epoch(here, number, progress), epoch(away, number, progress)
        assert ours[0].shape[-2:] == (size, size)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    for one, other in zip(here.val, away.val, strict=True):
        assert one[0].shape[-1] == SIZE
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_come_from_seed_epoch_and_index_alone(make_folder: FolderMaker, folder_loaders: Opener, workers: int):
    loaders = folder_loaders(make_folder({"train": 8, "val": 3}), 4, phases=(Phase(1.0, SIZE, 0.5),), workers=workers)
    images, labels = epoch(loaders, 2)
    files = splits(loaders._splits.train.directory.parent, 4).train
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(derive_seed(4, "order", 2)))
    steps = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), autoaugment(0.5), v2.PILToTensor()]
    normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    for number, index in enumerate(order[: len(images)].tolist()):
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(4, "augmentation", 2, index))
            expected = v2.Compose(steps)(Image.open(files.path(index)).convert("RGB"))
        assert torch.allclose(images[number], normalize(expected), rtol=0, atol=1e-5)
        assert labels[number] == files.labels[index]


def test_workers_ahead_of_a_slow_reader_spoil_nothing(make_folder: FolderMaker, folder_loaders: Opener):
    root = make_folder({"train": 20, "val": 3})
    here, away = folder_loaders(root), folder_loaders(root, workers=2)
    assert len(here.train) == 9  # more than the batches that are under way at once
    kept, copies = [], []
    for (images, _), (expected, _) in zip(away.train, here.train, strict=True):
        time.sleep(0.05)  # lets the workers run ahead as far as they can
        kept.append(images)
        copies.append(images.clone())
        assert torch.equal(images, expected)
    assert all(map(torch.equal, kept, copies))


def test_workers_are_not_restarted(make_folder: FolderMaker, folder_loaders: Opener):
    loaders = folder_loaders(make_folder({"train": 8, "val": 3}), workers=1)
    processes = []
    for number in range(2):
        epoch(loaders, number)
        processes.append([worker.pid for worker in loaders.train.loader._iterator._workers])
    assert processes[0] == processes[1]
    workers = loaders.train.loader._iterator._workers
    loaders.close()
    assert not any(worker.is_alive() for worker in workers)


def test_the_data_set_travels_to_a_spawned_worker(make_folder: FolderMaker, folder_loaders: Opener):
    dataset = folder_loaders(make_folder({"train": 4, "val": 2})).train.loader.dataset
    request = (3, Moment(2, SIZE, 0.5))
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).item(*request)[0], dataset.item(*request)[0])


def test_an_iteration_left_early_leaves_nothing_behind(make_folder: FolderMaker, folder_loaders: Opener):
    loaders = folder_loaders(make_folder({"train": 8, "val": 3}), workers=1)
    expected = epoch(loaders, 1)
    loaders.train.set_epoch(0, 0.0)
    next(iter(loaders.train))
    assert torch.equal(epoch(loaders, 1)[0], expected[0])


def test_evaluation_resizes_crops_and_normalizes(make_folder: FolderMaker, folder_loaders: Opener):
    root = make_folder({"train": 4, "val": 3})
    loaders = folder_loaders(root)
    images = torch.cat([images for images, _ in loaders.test])
    labels = torch.cat([labels for _, labels in loaders.test])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    pipeline = v2.Compose([v2.Resize(18), v2.CenterCrop(SIZE), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    normalize = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    files = sorted((root / "val").rglob("*.*"))
    expected = torch.stack([normalize(pipeline(Image.open(path).convert("RGB"))) for path in files])
    assert torch.allclose(images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("crop", "resized"), [(0.875, 18), (0.95, 16), (0.5, 32), (1.0, 16)])
def test_evaluation_options(
    make_folder: FolderMaker, folder_loaders: Opener, interpolation: str, crop: float, resized: int
):
    root = make_folder({"train": 4, "val": 3})
    loaders = folder_loaders(root, augmentation="none", crop=crop, interpolation=interpolation)
    steps = [v2.Resize(resized, InterpolationMode(interpolation)), v2.CenterCrop(SIZE), v2.PILToTensor()]
    normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    for loader in (loaders.val, loaders.test):
        files = loader.loader.dataset.files
        pictures = [Image.open(files.path(index)).convert("RGB") for index in range(len(files))]
        expected = torch.stack([normalize(v2.Compose(steps)(picture)) for picture in pictures])
        assert torch.allclose(torch.cat([images for images, _ in loader]), expected, rtol=0, atol=1e-5)


def test_evaluation_options_leave_training_alone(make_folder: FolderMaker, folder_loaders: Opener):
    root = make_folder({"train": 6, "val": 2})
    for augmentation in ("crop", "resized_crop_flip"):
        usual = folder_loaders(root, augmentation=augmentation)
        other = folder_loaders(root, augmentation=augmentation, crop=0.5, interpolation="bicubic")
        assert torch.equal(epoch(usual, 0)[0], epoch(other, 0)[0])
        assert not torch.equal(next(iter(usual.val))[0], next(iter(other.val))[0])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (224, 0.9), (160, 0.875), (99, 0.9), (160, 1.0)])
@pytest.mark.parametrize("shape", [(375, 500), (501, 333), (97, 211), (224, 224)])
def test_evaluation_equals_timm(shape: tuple[int, int], size: int, crop: float, interpolation: str):
    pixels = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
    theirs = create_transform(size, interpolation=interpolation, crop_pct=crop, normalize=False)
    ours = image_transform("none", size, 0.0, crop, interpolation)
    assert torch.equal(ours(Image.fromarray(pixels)), theirs(Image.fromarray(pixels)))


def test_labels_follow_the_images(make_folder: FolderMaker, folder_loaders: Opener):
    images, labels = epoch(folder_loaders(make_folder({"train": 12, "val": 2}), augmentation="crop"), 0)
    assert np.array_equal((images.mean((1, 2, 3)) > 0).numpy(), labels.numpy() == 1)  # bees are bright


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 no JPEG", b"", b"truncated"])
def test_a_corrupt_image_is_named(make_folder: FolderMaker, workers: int, content: bytes, folder_loaders: Opener):
    root = make_folder({"train": 6, "val": 2})
    victim = root / "val" / "bee" / "00.jpeg"
    victim.write_bytes(victim.read_bytes()[:400] if content == b"truncated" else content)
    with pytest.raises(InputError) as caught:  # a file of 0 bytes already when the folder is listed
        list(folder_loaders(root, workers=workers).test)
    assert str(caught.value).startswith(f"data_root: {victim} is not a readable image (")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_vanished_image_is_named(make_folder: FolderMaker, folder_loaders: Opener):
    loaders = folder_loaders(make_folder({"train": 6, "val": 2}))
    batches = loaders.test
    victim = next((batches.loader.dataset.files.directory / "ant").iterdir())
    victim.unlink()
    with pytest.raises(InputError, match=victim.name):
        list(batches)


def test_workers_need_no_room_in_dev_shm_but_for_their_locks(make_folder: FolderMaker, monkeypatch: pytest.MonkeyPatch):
    root, size, free = make_folder({"train": 4, "val": 2}), [64.0], [3.0]
    spec = resolve_data("folder", root, 224)

    def refuse(_: int) -> None:
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", refuse)
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_blocks=size[0], f_bavail=free[0], f_frsize=2**20))
    with open_loaders(spec, root, 0, LoaderOptions(4, "none", workers=1)) as loaders:  # 1.8 MB of batches
        assert sum(len(labels) for _, labels in loaders.test) == 4
    free[0] = 0.5
    with pytest.warns(UserWarning, match=r"no worker process decodes, for /dev/shm has 0.5 MiB free; .* --shm-size"):
        alone = open_test(resolve_data("folder", root, test_only=True), root, LoaderOptions(4, "none", workers=1))
    assert (alone.loader.num_workers, sum(len(labels) for _, labels in alone)) == (0, 4)
    size[0] = 1.0  # not even empty enough
    with pytest.raises(InputError, match=r"^/dev/shm: 1.0 MiB in all; worker processes need 2 MiB .* --shm-size=1g"):
        open_test(resolve_data("folder", root, test_only=True), root, LoaderOptions(4, "none", workers=1))
    assert len(open_test(resolve_data("folder", root, test_only=True), root, LoaderOptions(4, "none"))) == 1


@pytest.mark.slow
def test_scaled_batches_are_the_same_from_any_number_of_workers(make_folder, folder_loaders):
    root = make_folder({"train": 9, "val": 2, "test": 2})
    scales = ((8, 4), (16, 4))
    read = []
    for workers in (0, 2):
        loader = folder_loaders(root, workers=workers, scales=scales).train
        loader.set_epoch(1, 0.5)
        read.append(list(loader))
        assert [(images.shape[-1], len(images)) for images, _ in read[-1]] == [
            (moment.image_size, len(batch)) for batch, moment, _ in loader.plan
        ]
    assert {tuple(images.shape[2:]) for images, _ in read[0]} == {(8, 8), (16, 16)}
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(*read, strict=True))
