"""A network for evaluation, prediction and export: that of a finished run, or of a weight file."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobileone_core.cli.options.network import NetworkOptions
from mobileone_core.data.classes import shown_names
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError, require
from mobileone_core.files import sha256
from mobileone_core.model.checkpoints import FIRST_BLOCK, read_weights
from mobileone_core.study.record.reading import read_run
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import Form, cell_network, read_network
from mobileone_core.training.model_card import ModelCard, read_card

Say = Callable[[str], object]
WHOLE = r"backbone\.(stem|features)\."  # first names of detectors and segmenters
UNPREFIXED = r"(?<!\.)."  # any names, as training writes those of classifiers by name


@dataclass(frozen=True)
class NetworkSource:
    """A network in evaluation mode, the name and SHA-256 of its weight file, and what travels with it.

    network is a MobileOne, or a detector, a segmenter or a library's classifier, which cell then describes. card is
    None for a classifier's file that this package did not write; run_id and metrics are a run's.
    """

    network: Any
    variant: str
    file: str
    sha256: str
    card: ModelCard | None = None
    cell: CellSpec | None = None
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs; empty if they are not known."""
        return self.card.class_names if self.card else ()

    @property
    def task(self) -> str:
        """The task that the network was trained for."""
        return self.cell.task if self.cell else CellSpec.task


def open_source(
    options: NetworkOptions, form: Form, size: int | None = None, say: Say = print, card: ModelCard | None = None
) -> NetworkSource:
    """The network of the run or weight file in options. Raises InputError.

    size: what a variant is fitted to, in pixels, unless the file says it; the data set's if not given. say gets a line
    about which of a file's weights are read. card describes the detector or segmenter in a file, instead of the file's
    own card.
    """
    tracking, described, entry = options.storage.workspace.tracking, card, DATA_SETS[options.data_name]
    with tempfile.TemporaryDirectory() as directory:
        run = read_run(tracking, options.run, Path(directory), options.which) if options.run else None
        file = run.weights if run else options.weights
        assert file is not None  # options.check requires it
        card = run.card if run else card or read_card(file)
        cell = card.cell if card and (card.cell.task != CellSpec.task or card.cell.backbone) else None
        pattern = FIRST_BLOCK if cell is None else UNPREFIXED if cell.task == CellSpec.task else WHOLE
        chosen = read_weights(file, "auto" if run else options.which, pattern)
        digest = sha256(file)
    if cell and cell.task != CellSpec.task and not described:
        _require_own_data(options, cell, file.name)
    spec = card.cell.model if card else None
    if options.variant and not described:
        require(cell is None, "variant", options.variant, f"{file.name} says its network: leave it out")
        size = card.preprocessing.image_size if card else size or entry.image_size
        spec = options.network.spec(options.variant, entry.channels, size)
    if spec is None:
        raise InputError(f"variant: {file.name} does not say its network; give --variant")
    network = cell_network(cell, chosen.state, form) if cell else read_network(spec, chosen, form)
    if run:
        return NetworkSource(network, run.variant, file.name, digest, card, cell, run.run_id, run.metrics)
    say(str(chosen))
    return NetworkSource(network, options.variant or "network", file.name, digest, card, cell)


def _require_own_data(options: NetworkOptions, cell: CellSpec, file: str) -> None:
    own = cell.data.name
    require(options.data in ("", own), "data", options.data, f"{own}, as {file} says: leave it out")


def interface_of(options: NetworkOptions, source: NetworkSource) -> tuple[Preprocessing, tuple[str, ...], str]:
    """Preprocessing, class names and title of the data set in options, the card's or imagenet. Raises InputError."""
    if source.cell and source.task == CellSpec.task:  # of a library, which reads images in its own way
        _require_own_data(options, source.cell, source.file)
    if source.card is not None and (options.data in ("", source.card.cell.data.name) or source.cell):
        return source.card.preprocessing, source.card.class_names, source.card.data
    name, entry = options.data_name, DATA_SETS[options.data_name]
    data = DataSpec(name, entry.image_size, source.network.num_classes, entry.channels)
    return Preprocessing.of(data), shown_names(data, None), name
