"""Options of `mobileone predict`: the most probable classes of pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mobileone_core.cli.options.evaluate import Network, refuse_with_run
from mobileone_core.cli.options.workspace import CommandOptions, RecordOptions
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require, require_choice, require_integer


@dataclass(frozen=True)
class Predict(CommandOptions):
    """Print the most probable classes of pictures, with their probabilities.

    The network is that of a finished run (--run ID) or of a weight file (--weights FILE --variant s0). Pictures are
    turned as their EXIF orientation says, then read as in the run's evaluation.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]  # Image files, and directories of them.
    run: Annotated[str, tyro.conf.arg(metavar="ID")] = ""  # A finished run: its id, or how it begins.
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None  # Weights, if no run is given.
    variant: str = ""  # Network of the weight file; not needed for a file of this package.
    data: str = "imagenet"  # Data set of a weight file that does not name its own: preprocessing and class names.
    network: Network = field(default_factory=Network)
    top: Annotated[int, tyro.conf.arg(metavar="N")] = 5  # Classes per picture.
    json: bool = False  # One JSON object per line.
    storage: RecordOptions = field(default_factory=RecordOptions)

    def check(self) -> None:
        """Raise InputError for options that exclude each other and a missing file."""
        require(bool(self.images), "images", (), "image files, or directories of them")
        require_integer("top", self.top)
        require_choice("data", self.data, DATA_SETS)
        if self.run:
            refuse_with_run(self.run, self.network, variant=self.variant, weights=self.weights)
        elif self.weights is None:
            raise InputError("predict: give --run ID, or --weights FILE")
        else:
            require(self.weights.is_file(), "weights", str(self.weights), "an existing file")
