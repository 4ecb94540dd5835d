"""A network for evaluation, prediction and export: that of a finished run, or of a weight file."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobileone_core.cli.options.export import Export
from mobileone_core.cli.options.predict import Predict
from mobileone_core.cli.options.workspace import RecordOptions
from mobileone_core.data.classes import shown_names
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError
from mobileone_core.files import sha256
from mobileone_core.model.checkpoints import HEADS, read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.record.reading import read_run
from mobileone_core.training.evaluate import Form, read_network
from mobileone_core.training.model_card import ModelCard, read_card

Say = Callable[[str], object]


@dataclass(frozen=True)
class NetworkSource:
    """A network in evaluation mode, the name and SHA-256 of its weight file, and what travels with it.

    card is None for a file that this package did not write; run_id and metrics are a run's.
    """

    network: MobileOne
    variant: str
    file: str
    sha256: str
    card: ModelCard | None = None
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs; empty if they are not known."""
        return self.card.class_names if self.card else ()


def run_source(storage: RecordOptions, run: str, form: Form) -> NetworkSource:
    """The network of a finished run. Raises InputError."""
    with tempfile.TemporaryDirectory() as directory:
        found = read_run(storage.workspace.tracking, run, Path(directory))
        network = read_network(found.spec.model, found.spec.data.num_classes, found.weights, form)
        digest = sha256(found.weights)
    return NetworkSource(network, found.variant, found.weights.name, digest, found.card, found.run_id, found.metrics)


def deployed_source(
    options: Export | Predict, name: str, which: str = "auto", image_size: int | None = None, *, say: Say = print
) -> NetworkSource:
    """The deployed network of the run or weight file in options. Raises InputError.

    name: data set whose channels and image size, if none is given, a variant is fitted to.
    """
    if options.run:
        return run_source(options.storage, options.run, "deployed")
    assert options.weights is not None  # options.check requires it
    given = options.variant, DATA_SETS[name].channels, image_size or DATA_SETS[name].image_size
    spec = options.network.spec(*given) if options.variant else None
    return file_source(options.weights, options.variant, spec, "deployed", which, say=say)


def interface_of(card: ModelCard | None, name: str, classes: int) -> tuple[Preprocessing, tuple[str, ...], str]:
    """Preprocessing, class names and title of a card's data, or of a data set by name where there is no card."""
    if card is not None:
        return card.preprocessing, card.class_names, card.data
    data = DataSpec(name, DATA_SETS[name].image_size, classes, DATA_SETS[name].channels)
    return Preprocessing.of(data), shown_names(data, None), name


def file_source(  # noqa: PLR0913
    weights: Path, variant: str, spec: ModelSpec | None, form: Form, which: str = "auto", *, say: Say = print
) -> NetworkSource:
    """The network of a weight file, with this spec or the one that the file names. Raises InputError.

    say gets a line about which of the file's weights are read.
    """
    card = read_card(weights)
    spec = spec or (card.cell.model if card else None)
    if spec is None:
        raise InputError(f"variant: {weights.name} does not say its network; give --variant")
    classes = read_weights(weights, which).num_classes
    if not classes:
        raise InputError(f"{weights}: it holds no classifier ({' or '.join(HEADS)})")
    network = read_network(spec, classes, weights, form, which=which, say=say)
    return NetworkSource(network, variant or "network", weights.name, sha256(weights), card)
