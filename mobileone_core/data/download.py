"""Downloads and unpacks data sets with torchvision, completely or not at all."""

import tarfile
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from mobileone_core.data.catalog import IMAGENET_ARCHIVES, check_root
from mobileone_core.data.folders import find_test, split_folder
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError

ARCHIVES = {
    "cifar10": ("cifar-10-python.tar.gz",),
    "cifar100": ("cifar-100-python.tar.gz",),
    "imagenette": ("imagenette2.tgz",),
    "imagenet": (*IMAGENET_ARCHIVES, "meta.bin"),
}


def prepare_data(name: str, root: Path | None, *, test_only: bool = False) -> None:
    """Download or unpack a data set if it is missing, into a temporary directory that is then renamed.

    Call it once before several processes open the data set. With test_only, ImageNet's test set alone is unpacked.
    Does nothing for a data set not in ARCHIVES. Raises InputError if neither download nor archive is available.
    """
    if name not in ARCHIVES:
        return
    root = check_root(name, root)
    wanted: tuple[str, ...] = (DATA_SETS[name].directory,)
    if name == "imagenet":
        folders = [find_test(root)[1]] if test_only else [split_folder(root, split) for split in ("train", "val")]
        wanted = tuple(folder.name for folder in folders if folder != root)
    missing = [directory for directory in wanted if not (root / directory).is_dir()]
    if not missing:
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=root) as aside:
            for archive in ARCHIVES[name]:
                if (root / archive).exists():
                    (Path(aside) / archive).symlink_to((root / archive).absolute())
            for directory in missing:
                _builder(name, directory)(aside)
                (Path(aside) / directory).rename(root / directory)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        if all((root / directory).is_dir() for directory in missing):  # another process was faster
            return
        reason = " ".join(str(error).split())
        raise InputError(
            f"data_root: {root} holds no {name} and it could not be fetched ({reason}); "
            f"put {' or '.join(missing)} or {ARCHIVES[name][0]} there"
        ) from error


def _builder(name: str, directory: str) -> Callable[[str], object]:
    from torchvision import datasets  # takes a second

    if name == "imagenet":
        return lambda root: datasets.ImageNet(root, split=directory)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "imagenette": datasets.Imagenette}[name]
    return lambda root: kind(root, download=True)
