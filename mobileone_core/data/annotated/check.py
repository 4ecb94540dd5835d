"""What a data set with boxes or masks is understood to be, and the files that cannot be read."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileone_core.data.annotated.files import open_files
from mobileone_core.data.annotated.masks import IGNORED
from mobileone_core.data.check import FileFacts
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError

Track = Callable[[Iterable[int], str], Iterable[int]]  # shows the progress of a loop with a description


def read_annotated(spec: DataSpec, root: Path | None, track: Track) -> tuple[dict[str, NDArray[Any]], list[FileFacts]]:
    """Read every image of a set with its boxes or mask; spec comes from resolve_data.

    Returns the labels of each split, of every box or of the classes that each mask has, counted from 0, and what was
    read of every image. Validation is carved as seed 0 carves it. Raises InputError if a list or layout is broken.
    """
    facts, labels = list[FileFacts](), dict[str, NDArray[Any]]()
    for split in ("train", "val", "test"):
        files = open_files(spec, Path(root or ""), split, seed=0)
        numbers = [np.array([], np.int64)]
        for index in track(range(len(files)), split):
            try:
                image, target = files.read(index)
            except InputError as error:
                facts.append(FileFacts(split, error=str(error)))
                continue
            facts.append(FileFacts(split, image.mode, image.size))
            masks = target.get("masks")
            present = target["labels"] - 1 if masks is None else np.setdiff1d(masks, [IGNORED])
            numbers.append(present.astype(np.int64))
        labels[split] = np.concatenate(numbers)
    return labels, facts
