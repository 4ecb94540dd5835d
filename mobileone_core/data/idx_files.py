"""Verified files of the data sets in MNIST's format; needs no torch unless a checksum has to be looked up."""

import gzip
import hashlib
import zlib
from pathlib import Path

from mobileone_core.data.spec import DATA_SETS, IDX_FILES
from mobileone_core.errors import InputError


def check_files(name: str, root: Path) -> None:
    """Verify the files of a data set in MNIST's format. Raises InputError that names the first wrong or missing one."""
    for file in IDX_FILES:
        read_file(name, root, file)


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
