"""One export from its options to what was verified."""

import contextlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mobileone_core.cli.commands.labels import class_labels
from mobileone_core.cli.options.export import Export
from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError
from mobileone_core.files import sha256, write_content, write_whole
from mobileone_core.model.checkpoints import read_state
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.environment import git_revision
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.training.evaluate import read_network

if TYPE_CHECKING:
    from mobileone_core.latency.onnx import OnnxVerification

HEADS = ("head.fc.weight", "linear.weight")  # the classifier's name in our own and timm's layout, and the authors'


@dataclass(frozen=True)
class Source:
    """A deployed network, the data set it was made for, its image size in pixels, and facts about it."""

    network: MobileOne
    data: str
    image_size: int
    metadata: Mapping[str, str]


def run(asked: Export) -> None:
    """Export, verify, and print what was verified; InputError for what cannot be used."""
    began = time.perf_counter()
    interrupt = SignalGuard()
    with interrupt.installed():
        source = _from_run(asked) if asked.run else _from_file(asked)
        write = _coreml if asked.format == "coreml" else _onnx
        written = write(asked, source, interrupt)
    print("\n".join([*written, f"seconds     {time.perf_counter() - began:.1f}"]))


def _coreml(asked: Export, source: Source, interrupt: SignalGuard) -> list[str]:
    from mobileone_core.coreml.export import export_package

    pixels = _pixels(asked, source) if asked.input == "image" else None
    options = Options(source.image_size, asked.chosen_precision, pixels)
    done = export_package(source.network, asked.output, options, source.metadata, interrupt.check)
    found = done.verification
    lines = _lines(asked, source, found.census, found.weights, found.error)
    if found.half_difference is not None:
        finite = f"{found.half_difference:.1e} of the largest output (for information)"
        overflow = "results leave the range of float16; use --precision float32"
        lines.append(f"float16     {finite if found.half_difference < float('inf') else overflow}")
    return [*lines, f"size        {done.size:,} bytes", f"model hash  {done.hash}"]


def _onnx(asked: Export, source: Source, interrupt: SignalGuard) -> list[str]:
    from mobileone_core.latency.onnx import OnnxVerification, export_verified_onnx

    found: list[OnnxVerification] = []
    manifest = asked.output.with_name(f"{asked.output.name}.json")

    def write(aside: Path) -> None:
        found.append(export_verified_onnx(source.network, source.image_size, aside, source.metadata))
        interrupt.check()
        write_content(manifest, _manifest(asked, source, found[0], sha256(aside)))

    write_whole(asked.output, write)
    lines = _lines(asked, source, found[0].census, found[0].weights, found[0].error)
    return [
        *lines,
        f"size        {asked.output.stat().st_size:,} bytes",
        f"model hash  {sha256(asked.output)}",
        f"manifest    {manifest}",
    ]


def _manifest(asked: Export, source: Source, found: "OnnxVerification", digest: str) -> str:
    """As a package's: what it is, its hash, operators and what was verified; beside the file, and there before it."""
    content = {
        "hash": digest,
        "network": asdict(source.network.spec),
        "classes": source.network.num_classes,
        "image_size": source.image_size,
        "precision": asked.chosen_precision,
        "input": asked.input,
        "metadata": dict(source.metadata),
        "verified": asdict(found),
    }
    return json.dumps(content, indent=2) + "\n"


def _lines(asked: Export, source: Source, census: Mapping[str, int], weights: int, error: float) -> list[str]:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(census.items(), key=lambda item: -item[1]))
    shape = f"{source.network.spec.in_channels} x {source.image_size} x {source.image_size}"
    return [
        f"{asked.output}: verified",
        f"input       {asked.input} {shape}, {asked.chosen_precision}",
        f"operators   {counts}",
        f"weights     {weights} arrays are the network's",
        f"outputs     differ from torch's by {error:.1e} of the largest at most",
    ]


def _pixels(asked: Export, source: Source) -> Pixels:
    entry = DATA_SETS[source.data]
    return Pixels(entry.mean, entry.std, class_labels(source.data, source.network.num_classes, asked.labels))


def _from_run(asked: Export) -> Source:
    from mobileone_core.study.record.finished import read_run

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = read_run(asked.workspace.tracking, asked.run, directory)
        network = reparameterize(read_network(found.spec.model, found.spec.data.num_classes, found.weights))
        accuracy = {name: f"{found.metrics[name]:.6g}" for name in ("test/top1", "val/top1") if name in found.metrics}
        facts = {"key": found.spec.key, "run": asked.run, "variant": found.variant, **accuracy}
        metadata = _metadata(asked, facts, found.weights)
    data = found.spec.data
    return Source(network, data.name, asked.image_size or data.image_size, metadata)


def _from_file(asked: Export) -> Source:
    assert asked.weights is not None  # Export has checked
    entry = DATA_SETS[asked.data_name]
    size = asked.image_size or entry.image_size
    spec = ModelSpec.preset(asked.variant, in_channels=entry.channels).fitted_to(size).changed(**asked.network.changes)
    network = read_network(spec, _classes(asked.weights), asked.weights, "deployed")
    facts = {"variant": asked.variant, "weights file": asked.weights.name}
    return Source(network, asked.data_name, size, _metadata(asked, facts, asked.weights))


def _classes(weights: Path) -> int:
    """As many as the classifier of a weight file has."""
    _, state = read_state(weights)
    found = [state[name] for name in HEADS if name in state and state[name].dim() == 2]
    if not found:
        raise InputError(f"{weights}: it holds no classifier ({' or '.join(HEADS)})")
    return len(found[0])


def _metadata(asked: Export, facts: Mapping[str, str], weights: Path) -> dict[str, str]:
    usual = {
        "weights sha256": sha256(weights),
        "git": git_revision(),
        "torch": str(torch.__version__),
        "precision": asked.chosen_precision,
        "input": asked.input,
    }
    return {f"mobileone.{name.replace(' ', '_')}": text for name, text in {**facts, **usual}.items()}
