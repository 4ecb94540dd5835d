"""Options of `mobileone predict`: what a network sees in pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mobileone_core.cli.options.network import NetworkOptions
from mobileone_core.errors import require, require_integer


@dataclass(frozen=True)
class Predict(NetworkOptions):
    """Print what a network sees in pictures: the most probable classes, objects with their boxes, or shares of classes.

    The network is that of a finished run (--run ID) or of a weight file (--weights FILE --variant s0). Pictures are
    turned as their EXIF orientation says, then read as in the run's evaluation. Detectors draw boxes, segmenters masks
    into copies of the pictures.
    """

    images: tyro.conf.Positional[tuple[Path, ...]] = ()  # Image files, and directories of them.
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR|FILE")] = None
    """Directory of the copies, NAME-predicted.png (predictions/ if not given), or the file of a single one."""
    score_threshold: Annotated[float, tyro.conf.arg(metavar="SCORE")] = 0.5  # Smallest score of an object.
    top: Annotated[int, tyro.conf.arg(metavar="N")] = 5  # Classes per picture, of a classifier.
    json: bool = False  # One JSON object per line.

    def check(self) -> None:
        """Raise InputError for options that exclude each other and a missing file."""
        require(bool(self.images), "images", (), "image files, or directories of them")
        require_integer("top", self.top)
        require(0 <= self.score_threshold <= 1, "score_threshold", self.score_threshold, "from 0 to 1")
        super().check()
