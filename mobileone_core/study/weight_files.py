"""Weight files as named on a command line: a path, a finished run, or the authors' released weights."""

import os
import shutil
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.files import expanded, saved_text, sha256, write_content, write_whole
from mobileone_core.training.recipe import Teacher, weights_digest

RELEASED = ("s0", "s1", "s2", "s3", "s4")
URL = "https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/mobileone_{}_unfused.pth.tar"
RunWeights = Callable[[str], Path]
TIMEOUT = 30  # seconds without an answer


def read_teachers(
    texts: Sequence[str], run_weights: RunWeights, fetch: bool = True
) -> tuple[tuple[Teacher, ...], dict[str, Path]]:
    """Teachers typed as NAME or NAME=FILE, and their weight files by digest. Raises InputError."""
    teachers, files = [], dict[str, Path]()
    for text in texts:
        network, _, file = text.partition("=")
        digest, found = read_weight_file("teachers", file, run_weights, fetch)
        teachers.append(Teacher(network, digest))
        files |= found
    return tuple(teachers), files


def read_weight_file(field: str, text: str, run_weights: RunWeights, fetch: bool = True) -> tuple[str, dict[str, Path]]:
    """The digest of a weight file, and its path by digest; neither for an empty text. Raises InputError.

    text is a path, apple:s0 to apple:s4, or a finished run's id or its beginning, whose file run_weights returns.
    Without fetch, nothing is downloaded.
    """
    if not text:
        return "", {}
    path = expanded(Path(text)).absolute()
    if text.startswith("apple:"):
        path = released_weights(field, text.removeprefix("apple:"), fetch)
    elif not path.is_file():
        try:
            path = run_weights(text)
        except InputError as error:
            raise InputError.of(field, text, f"a weight file, apple:s0 to apple:s4 or a run ({error})") from error
    digest = weights_digest(path)
    return digest, {digest: path}


def released_weights(field: str, variant: str, fetch: bool = True) -> Path:
    """Path of the authors' released weights in train form, downloaded once to torch.hub's cache.

    They published no checksum: the SHA-256 of the first download is printed, kept, and compared whenever the file is
    used. Raises InputError if the file cannot be fetched, may not be, or has changed.
    """
    require_choice(field, variant, RELEASED)
    url = URL.format(variant)
    cache = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    path = expanded(Path(cache)) / "hub" / "checkpoints" / url.rpartition("/")[2]
    allowed = f"--plan fetches nothing: put {url} at {path}, or run without --plan"
    require(fetch or path.is_file(), field, f"apple:{variant}", allowed)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with urlopen(url, timeout=TIMEOUT) as response:
                write_whole(path, lambda aside: _save(response, aside))
        except (OSError, HTTPException) as error:
            allowed = f"it could not be fetched ({error}); put {url} at {path}"
            raise InputError.of(field, f"apple:{variant}", allowed) from error
    digest, note = sha256(path), path.with_name(f"{path.name}.sha256")
    if not note.is_file():
        write_content(note, f"{digest}\n")
        print(f"{path}: SHA-256 {digest}")
    require(saved_text(note).strip() == digest, field, f"apple:{variant}", f"{path} is not what was first fetched")
    return path


def _save(response: Any, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(response, file)
    if response.length:
        raise OSError(f"{response.length:,} bytes are missing")
