"""`mobileone export`: a network as a verified Core ML package or ONNX file. Imports nothing heavy before it works."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.evaluate import Directory, Network
from mobileone_core.cli.paths import runs_home
from mobileone_core.coreml.options import Precision
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.workspace import Workspace

SUFFIXES = {"coreml": ".mlpackage", "onnx": ".onnx"}


@dataclass(frozen=True)
class Export:
    """Write a network in deployed form as Core ML or ONNX, once the written program is verified against torch.

    The network is that of a finished run (--run ID) or of a weight file (--variant s0 --weights FILE), in any layout
    and form. The output appears whole, and only if it is right.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """NAME.mlpackage (a directory) or NAME.onnx."""
    format: Literal["coreml", "onnx"] = "coreml"
    run: Annotated[str, tyro.conf.arg(metavar="ID")] = ""
    """A finished run of the record, as mobileone status shows it."""
    variant: str = ""
    """Network of the weight file: s0 to s4 as published; tiny and small, ours."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights: .safetensors, or what torch.save wrote."""
    network: Network = field(default_factory=Network)
    precision: Precision | None = None
    """Of weights and results; float16 for Core ML and float32 for ONNX where not given."""
    input: Literal["tensor", "image"] = "tensor"
    """tensor: normalized numbers in, logits out, nothing added. image (Core ML): pixels in, label and probabilities
    out, normalization inside."""
    data: str = ""
    """Data set whose normalization, channels and labels a weight file's network has; imagenet where not given."""
    labels: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Class labels of an image input, one a line; known without it for imagenet, cifar10 and digits."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels; the run's own, or the data set's, where not given."""
    force: bool = False
    """Replace an output that exists."""
    runs: Directory = None
    """The record; runs/ of this workspace where not given."""
    tracking: str = ""
    """MLflow tracking URI; mlflow.db in the runs directory where not given."""

    @property
    def chosen_precision(self) -> Precision:
        return self.precision or ("float16" if self.format == "coreml" else "float32")

    @property
    def data_name(self) -> str:
        return self.data or "imagenet"

    @property
    def workspace(self) -> Workspace:
        return Workspace.at(self.runs or runs_home(), tracking=self.tracking)

    def __call__(self) -> int:
        self._check()
        from mobileone_core.cli.commands.export import run

        run(self)
        return COMPLETE

    def _check(self) -> None:
        """InputError for what cannot be asked for, before torch is imported."""
        suffix = SUFFIXES[self.format]
        require(self.output.suffix == suffix, "output", str(self.output), f"a name that ends in {suffix}")
        require(self.output.absolute().parent.is_dir(), "output", str(self.output), "in a directory that exists")
        require(self.force or not self.output.exists(), "output", str(self.output), "it exists; --force replaces it")
        kept = self.output.is_dir() == (self.format == "coreml") or not self.output.exists()
        require(kept, "output", str(self.output), "a package is a directory, an ONNX file is none")
        if self.format == "onnx":
            require(self.chosen_precision == "float32", "precision", self.precision, "float32 for ONNX")
            require(self.input == "tensor", "input", self.input, "tensor for ONNX")
        size = self.image_size
        require(size is None or size >= 1, "image_size", size, "an integer of 1 or more")
        require(self.labels is None or self.input == "image", "labels", str(self.labels), "with --input image")
        self._check_source()

    def _check_source(self) -> None:
        if self.run:
            given = [name for name in ("variant", "weights", "data") if getattr(self, name)]
            require(not given, "run", self.run, f"a run has its own {', '.join(given)}: leave it out")
            require(not self.network.changes, "run", self.run, "a run has its own network: leave its fields out")
            return
        if self.weights is None or not self.variant:
            raise InputError("export: give --run ID, or --variant s0 --weights FILE")
        ModelSpec.preset(self.variant, in_channels=3).changed(**self.network.changes)
        require(self.data_name in DATA_SETS, "data", self.data, f"one of {', '.join(DATA_SETS)}")
        require(self.weights.is_file(), "weights", str(self.weights), "an existing file")
