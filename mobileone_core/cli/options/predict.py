"""Options of `mobileone predict`: the most probable classes of pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mobileone_core.cli.options.network import NetworkOptions
from mobileone_core.errors import require, require_integer


@dataclass(frozen=True)
class Predict(NetworkOptions):
    """Print the most probable classes of pictures, with their probabilities.

    The network is that of a finished run (--run ID) or of a weight file (--weights FILE --variant s0). Pictures are
    turned as their EXIF orientation says, then read as in the run's evaluation.
    """

    images: tyro.conf.Positional[tuple[Path, ...]] = ()  # Image files, and directories of them.
    top: Annotated[int, tyro.conf.arg(metavar="N")] = 5  # Classes per picture.
    json: bool = False  # One JSON object per line.

    def check(self) -> None:
        """Raise InputError for options that exclude each other and a missing file."""
        require(bool(self.images), "images", (), "image files, or directories of them")
        require_integer("top", self.top)
        super().check()
