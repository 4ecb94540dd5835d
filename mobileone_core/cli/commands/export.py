"""The command `mobileone export`."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.export import Export
from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require
from mobileone_core.files import read_text, sha256, write_content, write_whole
from mobileone_core.model.checkpoints import HEADS, read_weights
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize
from mobileone_core.study.environment import git_revision
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.training.evaluate import read_network


@dataclass(frozen=True)
class ExportSource:
    """A deployed network to export, with its data set, image size in pixels, and metadata for the file."""

    network: MobileOne
    data: str
    image_size: int
    metadata: Mapping[str, str]


def export(options: Export) -> int:
    """Export, verify, print what was verified; return the exit status. Raises InputError."""
    began = time.perf_counter()
    interrupt = SignalGuard()
    with interrupt.installed():
        source = _from_run(options) if options.run else _from_file(options)
        write = _coreml if options.format == "coreml" else _onnx
        written = write(options, source, interrupt)
    print("\n".join([*written, f"seconds     {time.perf_counter() - began:.1f}"]))
    return COMPLETE


def _coreml(options: Export, source: ExportSource, interrupt: SignalGuard) -> list[str]:
    from mobileone_core.coreml.export import export_package

    entry, pixels = DATA_SETS[source.data], None
    if options.input == "image":
        pixels = Pixels(entry.mean, entry.std, class_labels(source.data, source.network.num_classes, options.labels))
    conversion = Options(source.image_size, options.chosen_precision, pixels)
    done = export_package(source.network, options.output, conversion, source.metadata, interrupt.check)
    verified = done.verification
    lines = _lines(options, source, verified.census, verified.weights, verified.error)
    if verified.half_difference is not None:
        finite = f"{verified.half_difference:.1e} of the largest output (for information)"
        overflow = "results leave the range of float16; use --precision float32"
        lines.append(f"float16     {finite if verified.half_difference < float('inf') else overflow}")
    return [*lines, f"size        {done.size:,} bytes", f"model hash  {done.hash}"]


def _onnx(options: Export, source: ExportSource, interrupt: SignalGuard) -> list[str]:
    """Write the file and, before it appears, its manifest: hash, network, operators and what was verified."""
    from mobileone_core.latency.onnx import OnnxVerification, export_verified_onnx

    results: list[OnnxVerification] = []
    manifest = options.output.with_name(f"{options.output.name}.json")

    def write(aside: Path) -> None:
        results.append(export_verified_onnx(source.network, source.image_size, aside, source.metadata))
        interrupt.check()
        content = {
            "hash": sha256(aside),
            "network": asdict(source.network.spec),
            "classes": source.network.num_classes,
            "image_size": source.image_size,
            "precision": options.chosen_precision,
            "input": options.input,
            "metadata": dict(source.metadata),
            "verified": asdict(results[0]),
        }
        write_content(manifest, json.dumps(content, indent=2) + "\n")

    write_whole(options.output, write)
    lines = _lines(options, source, results[0].census, results[0].weights, results[0].error)
    size = f"size        {options.output.stat().st_size:,} bytes"
    return [*lines, size, f"model hash  {sha256(options.output)}", f"manifest    {manifest}"]


def _lines(options: Export, source: ExportSource, census: Mapping[str, int], weights: int, error: float) -> list[str]:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(census.items(), key=lambda item: -item[1]))
    shape = f"{source.network.spec.in_channels} x {source.image_size} x {source.image_size}"
    return [
        f"{options.output}: verified",
        f"input       {options.input} {shape}, {options.chosen_precision}",
        f"operators   {counts}",
        f"weights     {weights} arrays are the network's",
        f"outputs     differ from torch's by {error:.1e} of the largest at most",
    ]


def _from_run(options: Export) -> ExportSource:
    from mobileone_core.study.record.reading import read_run

    with tempfile.TemporaryDirectory() as directory:
        run = read_run(options.storage.workspace.tracking, options.run, Path(directory))
        network = reparameterize(read_network(run.spec.model, run.spec.data.num_classes, run.weights))
        accuracy = {name: f"{run.metrics[name]:.6g}" for name in ("test/top1", "val/top1") if name in run.metrics}
        facts = {"key": run.spec.key, "run": options.run, "variant": run.variant, **accuracy}
        metadata = _metadata(options, facts, run.weights)
    data = run.spec.data
    return ExportSource(network, data.name, options.image_size or data.image_size, metadata)


def _from_file(options: Export) -> ExportSource:
    assert options.weights is not None  # Export.check requires it
    entry = DATA_SETS[options.data_name]
    size = options.image_size or entry.image_size
    spec = options.network.spec(options.variant, entry.channels, size)
    classes = read_weights(options.weights, options.which).num_classes
    if not classes:
        raise InputError(f"{options.weights}: it holds no classifier ({' or '.join(HEADS)})")
    network = read_network(spec, classes, options.weights, "deployed", which=options.which, say=print)
    facts = {"variant": options.variant, "weights file": options.weights.name}
    return ExportSource(network, options.data_name, size, _metadata(options, facts, options.weights))


def _metadata(options: Export, facts: Mapping[str, str], weights: Path) -> dict[str, str]:
    usual = {
        "weights sha256": sha256(weights),
        "git": git_revision(),
        "torch": str(torch.__version__),
        "precision": options.chosen_precision,
        "input": options.input,
    }
    return {f"mobileone.{name.replace(' ', '_')}": text for name, text in {**facts, **usual}.items()}


def class_labels(data: str, classes: int, file: Path | None = None) -> tuple[str, ...]:
    """One label per class, from a file with one per line, else the data set's.

    ImageNet uses two names twice (crane, maillot): the second class of each carries its number. Raises InputError.
    """
    if file is not None:
        require(file.is_file(), "labels", str(file), "an existing file")
        labels = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
        require(len(labels) == classes, "labels", f"{file} ({len(labels)} labels)", f"one per class: {classes}")
        return labels
    labels = _imagenet_labels() if data == "imagenet" else DATA_SETS[data].class_names
    if len(labels) != classes:
        raise InputError(f"labels: there are none for {classes} classes of {data}; give --labels FILE, one per line")
    return labels


def _imagenet_labels() -> tuple[str, ...]:
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    first = {label: number for number, label in reversed(list(enumerate(CATEGORIES)))}
    return tuple(label if first[label] == number else f"{label} ({number})" for number, label in enumerate(CATEGORIES))
