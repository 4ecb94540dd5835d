"""Downloads and unpacks data sets with torchvision, completely or not at all; verifies files in MNIST's format."""

import gzip
import hashlib
import tarfile
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path

from mobileone_core.data.catalog import check_root, imagenet_folders
from mobileone_core.data.spec import DATA_SETS, IDX_FILES
from mobileone_core.errors import InputError


def prepare_data(name: str, root: Path | None, *, test_only: bool = False) -> None:
    """Download or unpack a data set if it is missing, into a temporary directory that is then renamed.

    Call it once before several processes open the data set. Files in MNIST's format are verified. With test_only,
    ImageNet's test set alone is unpacked. Does nothing for a data set that torchvision does not read. Raises InputError
    if neither download nor archive is available, or a file is not the published one.
    """
    entry = DATA_SETS[name]
    if not entry.reader and not entry.archives:
        return
    root = check_root(name, root)
    is_idx = entry.files == IDX_FILES
    if is_idx and any((root / item).exists() for file in IDX_FILES for item in (file, file.removesuffix(".gz"))):
        for file in IDX_FILES:
            read_file(name, root, file)
        return
    wanted = (entry.directory,) if entry.directory else entry.files
    if name == "imagenet":
        wanted = tuple(path.name for path in imagenet_folders(root, test_only=test_only).values() if path != root)
    missing = [item for item in wanted if not (root / item).exists()]
    if not missing:
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=root) as aside:
            for present in (*entry.archives, *entry.files):
                if (root / present).exists():
                    (Path(aside) / present).symlink_to((root / present).absolute())
            for item in missing:
                if not (Path(aside) / item).exists():
                    _fetch(name, item, aside)
            for item in missing:
                (Path(aside) / item).rename(root / item)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        if all((root / item).exists() for item in missing):  # another process was faster
            return
        reason, packed = " ".join(str(error).split()), (entry.archives or entry.files)[:1]
        cure = f"put {' or '.join([*missing, *packed])} there"
        raise InputError(f"data_root: {root} holds no {name} and it could not be fetched ({reason}); {cure}") from error


def _fetch(name: str, item: str, root: str) -> None:
    from torchvision import datasets  # takes a second

    if name == "imagenet":
        datasets.ImageNet(root, split=item)
        return
    entry = DATA_SETS[name]
    for arguments in (entry.train, entry.test):
        getattr(datasets, entry.reader)(root, download=True, **arguments)


def read_file(name: str, root: Path, file: str) -> bytes:
    """Return the unpacked content of an idx file, if it or its archive has the published MD5 sum.

    Either counts, since the same content is packed differently by distributions. Where the sum of its content is not
    published, a file that is not packed passes unless it is another set's. Raises InputError.
    """
    source, entry = _find(name, root, file), DATA_SETS[name]
    content = packed = source.read_bytes()
    is_archive, known = source.suffix == ".gz", entry.unpacked.get(file.removesuffix(".gz"), "")
    try:
        content = gzip.decompress(packed) if is_archive else packed
    except (EOFError, OSError, zlib.error):
        content = b""
    others = {digest for other in DATA_SETS.values() for digest in other.unpacked.values()}
    fits = _md5(content) == known if known else not is_archive and _md5(content) not in others
    if content and (fits or (is_archive and _md5(packed) == _published(name, file))):
        return content
    raise InputError(f"data_root: {source} is not the file of {name}: cut short, altered, or of another data set")


def _find(name: str, root: Path, file: str) -> Path:
    """The path of one file, packed or not, in torchvision's layout or in root itself."""
    for folder in (root / DATA_SETS[name].directory / "raw", root):
        for item in (file, file.removesuffix(".gz")):
            if (folder / item).is_file():
                return folder / item
    raise InputError(f"data_root: {root} holds {name} without {file}")


def _published(name: str, file: str) -> str:
    from torchvision import datasets  # takes a second

    resources: dict[str, str] = dict(getattr(datasets, DATA_SETS[name].reader).resources)
    return resources[file]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
