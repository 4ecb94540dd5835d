"""A network for evaluation, prediction and export: that of a finished run, or of a weight file."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from mobileone_core.cli.options.network import NetworkOptions
from mobileone_core.data.classes import shown_names
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError
from mobileone_core.files import sha256
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.study.record.reading import FinishedRun, read_run
from mobileone_core.training.evaluate import Form, read_network
from mobileone_core.training.model_card import ModelCard, read_card
from mobileone_core.training.tasks.task import Task, build_task

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


@contextlib.contextmanager
def finished_run(options: NetworkOptions) -> Iterator[FinishedRun]:
    """The run in options, whose files last as long as the context. Raises InputError."""
    with tempfile.TemporaryDirectory() as directory:
        yield read_run(options.storage.workspace.tracking, options.run, Path(directory), options.which)


def run_source(run: FinishedRun, form: Form) -> NetworkSource:
    """The classifier of a run. Raises InputError if it has none."""
    network, digest = read_network(run.spec.model, read_weights(run.weights), form), sha256(run.weights)
    return NetworkSource(network, run.variant, run.weights.name, digest, run.card, run.run_id, run.metrics)


def run_task(run: FinishedRun) -> tuple[Task, nn.Module]:
    """The task of a run, and its network with branches in evaluation mode."""
    network = (task := build_task(run.spec)).build_network().eval()
    network.load_state_dict(load_file(run.weights))
    return task, network


def source_of(options: NetworkOptions, form: Form, image_size: int | None = None, say: Say = print) -> NetworkSource:
    """The network of the run or weight file in options. Raises InputError.

    image_size: what a variant is fitted to; the data set's if not given. say gets a line about which of a file's
    weights are read.
    """
    if options.run:
        with finished_run(options) as run:
            return run_source(run, form)
    assert options.weights is not None  # options.check requires it
    card, chosen = read_card(options.weights), read_weights(options.weights, options.which)
    entry = DATA_SETS[options.data_name]
    spec = card.cell.model if card else None
    if options.variant:
        spec = options.network.spec(options.variant, entry.channels, image_size or entry.image_size)
    if spec is None:
        raise InputError(f"variant: {options.weights.name} does not say its network; give --variant")
    network = read_network(spec, chosen, form)
    say(str(chosen))
    return NetworkSource(network, options.variant or "network", options.weights.name, sha256(options.weights), card)


def interface_of(options: NetworkOptions, source: NetworkSource) -> tuple[Preprocessing, tuple[str, ...], str]:
    """Preprocessing, class names and title of the data set in options, of the card's, or else of imagenet."""
    if source.card is not None and not options.data:
        return source.card.preprocessing, source.card.class_names, source.card.data
    name, entry = options.data_name, DATA_SETS[options.data_name]
    data = DataSpec(name, entry.image_size, source.network.num_classes, entry.channels)
    return Preprocessing.of(data), shown_names(data, None), name
