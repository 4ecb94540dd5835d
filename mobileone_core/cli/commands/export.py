"""The command `mobileone export`, and the images by which it calibrates and tests an int8 file."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mobileone_core.cli.commands.interface import exported_interface
from mobileone_core.cli.commands.source import NetworkSource, interface_of, open_source
from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.network import Export
from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.classes import shown_names
from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import InputError, require
from mobileone_core.files import read_text, sha256, write_content, write_whole
from mobileone_core.model.network import ExportNetwork, MobileOne
from mobileone_core.study.environment import git_revision
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate
from mobileone_core.training.quantized import BATCH, calibration_batches
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks import metric_labels
from mobileone_core.training.tasks.task import build_task

CALIBRATED = 16  # images per batch of the calibration, all of whose activations ONNX Runtime holds in memory
TESTED = 500  # test images at most, evenly spaced


class CalibrationData:
    """Training and test images of the data set or directory in options.calibration, read as the network reads them.

    Raises InputError if they are missing, or have other channels or classes than the network.
    """

    def __init__(self, options: Export, source: NetworkSource, preprocessing: Preprocessing) -> None:
        network, self.images = source.network, options.calibration_images
        name, _, root = options.calibration.partition("=")
        if name not in DATA_SETS:
            name, root = "folder", options.calibration
        self.root = Path(root) if root else None
        has_root = self.root is not None or name == "digits"
        require(has_root, "calibration", options.calibration, f"{name}=DIR, with the directory of its images")
        try:
            self.data = resolve_data(name, self.root, preprocessing.image_size)
            names = shown_names(self.data, self.root)
        except InputError as error:
            raise InputError(f"calibration: {str(error).removeprefix('data_root: ')}") from error
        channels, classes = network.spec.in_channels, network.num_classes
        fits = (self.data.channels, self.data.num_classes) == (channels, classes)
        fits = fits and (not names or not source.class_names or names == source.class_names)
        allowed = f"images of {channels} channels and the network's {classes} classes"
        require(fits, "calibration", options.calibration, allowed)
        normalization = preprocessing.mean, preprocessing.std
        self.loading = LoaderOptions(CALIBRATED, "none", workers=torch.get_num_threads(), normalization=normalization)
        self.task = build_task(CellSpec(network.spec, self.data, Recipe(label_smoothing=0.0)))

    def batches(self) -> Iterator[Tensor]:
        """The calibration images, (B, C, S, S) normalized. Raises InputError if they are too few or of one colour."""
        with self._open(self.loading) as loaders:
            yield from calibration_batches(loaders.train, self.images)

    def line(self, before: nn.Module, after: nn.Module) -> str:
        """The line on top-1 of the network before and after, on TESTED test images or fewer."""
        with self._open(self.loading) as loaders:
            step = -(-loaders.test.plan.count // TESTED)
        with self._open(replace(self.loading, batch_size=BATCH * step, share=Share(0, step))) as loaders:
            measure = partial(evaluate, task=self.task, batches=loaders.test, stage="test", device=torch.device("cpu"))
            first, second = measure(before), measure(after)
        shares = [f"{100 * results['test/top1']:.2f} % in" for results in (first, second)]
        title = f"{self.data.name} {self.root or ''}".strip()
        return f"top-1       {shares[0]} float32, {shares[1]} int8 ({first['test/images']:.0f} test images, {title})"

    def _open(self, loading: LoaderOptions) -> Loaders:
        return open_loaders(self.data, self.root, 0, loading)


@dataclass(frozen=True)
class ExportSource:
    """A deployed network to export, the preprocessing of its images, its labels, and metadata for the file.

    interface: what an application needs to know, as JSON. calibration: images of an int8 export.
    """

    network: ExportNetwork
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    interface: Mapping[str, Any]
    calibration: CalibrationData | None = None


def export(options: Export) -> int:
    """Export, verify, print what was verified; return the exit status. Raises InputError."""
    began = time.perf_counter()
    interrupt = SignalGuard()
    with interrupt.installed():
        source = _source(options)
        write = _coreml if options.chosen_format == "coreml" else _onnx
        written = write(options, source, interrupt)
    print("\n".join([*written, f"seconds     {time.perf_counter() - began:.1f}"]))
    return COMPLETE


def _coreml(options: Export, source: ExportSource, interrupt: SignalGuard) -> list[str]:
    from mobileone_core.coreml.export import export_package

    read, labels = source.preprocessing, source.labels if source.interface["task"] == CellSpec.task else ()
    pixels = Pixels(read.mean, read.std, labels) if options.input == "image" else None
    conversion = Options(read.image_size, options.chosen_precision, pixels, options.quantize is not None)
    texts = source.metadata, interrupt.check, source.interface
    done = export_package(source.network, options.output, conversion, *texts)
    verified = done.verification
    lines = _lines(options, source, verified.census, verified.weights, verified.error)
    if verified.half_difference is not None:
        finite = f"{verified.half_difference:.1e} of the largest output (for information)"
        overflow = "results leave the range of float16; use --precision float32"
        lines.append(f"float16     {finite if verified.half_difference < float('inf') else overflow}")
    if source.calibration is not None:
        lines.append(source.calibration.line(source.network, done.network))
    return [*lines, f"size        {done.size:,} bytes", f"model hash  {done.hash}"]


def _onnx(options: Export, source: ExportSource, interrupt: SignalGuard) -> list[str]:
    """Write the file, then its manifest: hash, network, operators and what was verified."""
    from mobileone_core.onnx.export import OnnxOptions, OnnxVerification, Suppression, describe, export_verified_onnx
    from mobileone_core.onnx.int8 import OnnxNetwork, reduces_range
    from mobileone_core.onnx.quantize import export_int8_onnx
    from mobileone_core.onnx.scheme import Quantization

    rule = Suppression(**source.interface["nms"]["rule"]) if options.nms else None
    size = source.preprocessing.image_size
    chosen = OnnxOptions(size, 1 if rule else options.batch_size, options.chosen_precision, rule)

    def write(aside: Path) -> OnnxVerification:
        if source.calibration is None:
            verified = export_verified_onnx(source.network, chosen, aside)
        else:
            assert isinstance(source.network, MobileOne)
            scheme = Quantization("full", "channel", images=source.calibration.images)
            verified = export_int8_onnx(source.network, scheme, source.calibration.batches(), aside)
        describe(aside, source.metadata, source.interface)
        interrupt.check()
        return verified

    verified, digest = write_whole(options.output, write), sha256(options.output)
    content = {"hash": digest, "metadata": dict(source.metadata), "verified": asdict(verified), **source.interface}
    write_content(options.manifest, json.dumps(content, indent=2) + "\n")
    lines = _lines(options, source, verified.census, verified.weights, verified.error)
    if source.calibration is not None:
        bits = "7 bits: the processor has no VNNI" if reduces_range() else "8 bits"
        lines.append(f"int8        weights of {bits}, a scale per output channel; {source.calibration.images} images")
        lines.append(source.calibration.line(source.network, OnnxNetwork(options.output, torch.get_num_threads())))
    weight = f"size        {options.output.stat().st_size:,} bytes"
    return [*lines, weight, f"model hash  {digest}", f"manifest    {options.manifest}"]


def _lines(options: Export, source: ExportSource, census: Mapping[str, int], weights: int, error: float) -> list[str]:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(census.items(), key=lambda item: -item[1]))
    size = source.preprocessing.image_size
    shape = f"{source.network.spec.in_channels} x {size} x {size}"
    return [
        f"{options.output}: verified",
        f"input       {options.input} {shape}, {options.chosen_precision}",
        f"operators   {counts}",
        f"weights     {weights} arrays are the network's" + (", within half a step" if options.quantize else ""),
        f"outputs     differ from torch's by {error:.1e} of the largest at most",
    ]


def _source(options: Export) -> ExportSource:
    """The network with all that its user needs. Raises InputError."""
    source = open_source(options, "deployed", options.image_size)
    allowed = f"no {type(source.network).__name__}, for it is no MobileOne; load_run returns it folded"
    is_classifier = source.task == CellSpec.task
    require(not (source.cell and is_classifier), "weights", source.file, allowed)
    if source.card and source.cell:
        size = options.image_size or source.card.preprocessing.image_size
        source = replace(source, network=build_task(source.cell).exportable(source.network, size))
    card, network = (None if options.data else source.card), source.network
    preprocessing, names, title = interface_of(options, source)
    size = options.image_size or preprocessing.image_size
    if card is not None and size != preprocessing.image_size:
        print(f"warning: weights trained at {preprocessing.image_size} px are exported for {size} px", file=sys.stderr)
    preprocessing = replace(preprocessing, image_size=size)
    allowed = f"for {'detectors' if options.nms else 'classifiers'}; leave it out"
    require(not options.nms or source.task == "detection", "nms", options.nms, allowed)
    require(is_classifier or not options.quantize, "quantize", options.quantize, allowed)
    required = options.input == "image" and is_classifier
    labels = class_labels(names, network.num_classes, options.labels, required=required)
    interface = exported_interface(options, preprocessing, labels, source, title)
    facts = {"variant": source.variant, "file": source.file, "git": git_revision(), "torch": str(torch.__version__)}
    facts |= {"quantize": options.quantize, "calibration": options.calibration} if options.quantize else {}
    if card is not None:
        facts |= {"key": card.cell.key, "recipe": json.dumps(asdict(card.cell.recipe))}
    metrics = [f"{split}/{name}" for split in ("test", "val") for name in metric_labels()]
    facts |= {name: f"{source.metrics[name]:.6g}" for name in metrics if name in source.metrics}
    facts |= {name: item if isinstance(item, str) else json.dumps(item) for name, item in interface.items()}
    metadata = {f"mobileone.{name}": text for name, text in facts.items()}
    calibration = CalibrationData(options, source, preprocessing) if options.quantize else None
    return ExportSource(network, preprocessing, labels, metadata, interface, calibration)


def class_labels(names: Sequence[str], classes: int, file: Path | None, *, required: bool) -> tuple[str, ...]:
    """One label per class, from a file with one per line, else these names; none if they are not required.

    Raises InputError for another number of labels.
    """
    if file is not None:
        labels = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
        require(len(labels) == classes, "labels", f"{file} ({len(labels)} labels)", f"one per class: {classes}")
        return labels
    is_known = len(names) == classes
    if required and not is_known:
        unknown = f"none are known for the network's {classes} classes"
        raise InputError(f"labels: {unknown}; give --labels FILE, one per line")
    return tuple(names) if is_known else ()
