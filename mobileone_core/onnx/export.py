"""Networks as ONNX files: export, non-maximum suppression as a detector's end, verification against the network."""

import contextlib
import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.errors import InputError
from mobileone_core.model.network import ExportNetwork, outputs_of

TOLERANCE = 1e-4  # of the largest output
HALF_TOLERANCE = 2e-2  # every result is rounded to 11 bits


@dataclass(frozen=True)
class Suppression:
    """Smallest score of a detection, overlap above which the worse of two of a class goes, and how many there are.

    detections: per class before suppression, and per image after it.
    """

    score_threshold: float
    overlap: float
    detections: int

    def model(self, ir_version: int, opset: int) -> Any:
        """The graph: boxes (1, A, 4), scores (1, A, classes) to boxes (n, 4), scores and classes (n,), best first."""
        import onnx

        text = Path(__file__).with_name("nms.onnxtxt").read_text(encoding="utf-8")
        values = {"LIMIT": self.detections, "OVERLAP": self.overlap, "THRESHOLD": self.score_threshold}
        return onnx.parser.parse_model(Template(text).substitute(values, IR=ir_version, OPSET=opset))


def add_suppression(path: Path, rule: Suppression, images: Tensor) -> None:
    """Let a file of a detector, whose outputs are boxes and scores of one image, return what rule leaves of them.

    images: (1, C, S, S), for which the file must run; what it runs into is raised.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    (opset,) = [item.version for item in model.opset_import if not item.domain]
    detector = onnx.compose.add_prefix(model, "detector/", rename_inputs=False)
    joins = [(f"detector/{name}", f"raw_{name}") for name in ("boxes", "scores")]
    onnx.save(onnx.compose.merge_models(detector, rule.model(model.ir_version, opset), joins), path)
    onnx.checker.check_model(str(path), full_check=True)
    onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})


class HalfNetwork(nn.Module):
    """A copy of a network that computes in float16; images and outputs stay float32."""

    def __init__(self, network: ExportNetwork) -> None:
        super().__init__()
        self.network, self.output_names = copy.deepcopy(network).half(), network.output_names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in outputs_of(self.network, images.half()))


def export_onnx(network: nn.Module, images: Tensor, path: Path, *, any_batch: bool = False) -> None:
    """Write a network in evaluation mode to one file, weights inside, for images of exactly this shape.

    images: (B, C, S, S); with any_batch B is only an example, of 2 or more, and named batch. The input is named images,
    outputs as the network's output_names, or logits. The exporter's messages are suppressed, its errors are not.
    """
    names: dict[str, Any] = {"input_names": ["images"]}
    names["output_names"] = list(getattr(network, "output_names", ExportNetwork.output_names))
    names |= {"dynamic_shapes": ({0: "batch"},)} if any_batch else {}
    with quiet("torch.onnx"):
        torch.onnx.export(network, (images,), path, **names, dynamo=True, external_data=False, verbose=False)


@contextlib.contextmanager
def quiet(logger: str = "") -> Iterator[None]:
    """Suppress warnings, a logger's messages and what is printed inside the context; exceptions still propagate."""
    log, printed = logging.getLogger(logger), io.StringIO()
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        ignored = warnings.catch_warnings(action="ignore")
        with ignored, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    finally:
        log.setLevel(level)


@dataclass(frozen=True)
class OnnxVerification:
    """Operators by kind, number of weight arrays compared, largest difference of outputs relative to the largest."""

    census: dict[str, int]
    weights: int
    error: float


@dataclass(frozen=True)
class OnnxOptions:
    """Image size in pixels, batch size (None: any; 1 with suppression), precision, and a detector's suppression."""

    image_size: int
    batch_size: int | None = None
    precision: str = "float32"
    suppression: Suppression | None = None


def export_verified_onnx(network: ExportNetwork, options: OnnxOptions, path: Path) -> OnnxVerification:
    """Export a deployed network and verify the file, for any batch at two batch sizes.

    Raises InputError if the file does not compute what the network computes; the file is then left for the caller to
    remove.
    """
    generator, size = torch.Generator().manual_seed(0), options.image_size
    batches = (3, 1) if options.batch_size is None else (options.batch_size,)
    images = [torch.randn((count, network.spec.in_channels, size, size), generator=generator) for count in batches]
    exported = HalfNetwork(network).eval() if options.precision == "float16" else network
    export_onnx(exported, images[0], path, any_batch=options.batch_size is None)
    results = [verify_onnx(path, exported, batch) for batch in images]
    result = replace(results[0], error=max(item.error for item in results))
    if options.suppression is not None:
        add_suppression(path, options.suppression, images[-1])
        result = replace(result, census=operators(path))
    return result


def operators(path: Path) -> dict[str, int]:
    """Number of an ONNX file's operators by kind."""
    import onnx

    return dict(Counter(node.op_type for node in onnx.load(path).graph.node))


def describe(path: Path, metadata: Mapping[str, str], interface: Mapping[str, Any]) -> None:
    """Write metadata into a file, and the manifest's texts: description, inputs, outputs."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    model.doc_string = interface["description"]
    texts = {item["name"]: item["description"] for item in (*interface["inputs"], *interface["outputs"])}
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = texts[value.name]
    onnx.save(model, path)


def verify_onnx(path: Path, network: nn.Module, images: Tensor) -> OnnxVerification:
    """Compare an ONNX file with the deployed network: its operators, every weight bit by bit, and its outputs.

    A HalfNetwork is compared with its weights and images, rounded to float16, in float32 arithmetic. Of a network that
    kept BatchNorm, which exporters fold, no weights are compared.

    images: (B, C, S, S) of the exported shape. Raises InputError that names what differs.
    """
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    census = operators(path)
    is_folded = not any(isinstance(item, nn.BatchNorm2d) for item in network.modules())
    convolutions = sum(isinstance(item, nn.Conv2d) for item in network.modules())
    if is_folded and (census.get("Conv", 0) != convolutions or "BatchNormalization" in census):
        raise InputError(f"{path.name}: operators are not the network's; {census}, expected {convolutions} Conv")
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    parameters = dict(network.named_parameters()) if is_folded else {}
    for name, expected in parameters.items():
        zeros = np.zeros(len(expected), np.float32)  # of equal arrays one is in the file, and no bias of zeros
        candidates = [arrays[name]] if name in arrays else [*arrays.values(), zeros]
        if not any(np.array_equal(array, expected.detach().numpy()) for array in candidates):
            raise InputError(f"{path.name}: {name} is not the network's")
    return OnnxVerification(census, len(parameters), _output_error(path, network, images))


def _output_error(path: Path, network: nn.Module, images: Tensor) -> float:
    """The largest difference between the file's outputs and torch's, relative to each one's largest.

    Raises InputError.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = map(torch.from_numpy, session.run(None, {"images": images.numpy()}))
    tolerance, more = TOLERANCE, ""
    if isinstance(network, HalfNetwork):
        tolerance, more = HALF_TOLERANCE, "; use --precision float32"
        network, images = copy.deepcopy(network.network).float(), images.half().float()
    with torch.inference_mode():
        references = outputs_of(network, images)
    error = relative_error([*outputs], references)
    if not error <= tolerance:
        raise InputError(f"{path.name}: its outputs differ from torch's by {error:.1e}, allowed {tolerance:.0e}{more}")
    return error


def relative_error(outputs: Sequence[Tensor], references: Sequence[Tensor]) -> float:
    """The largest difference of tensors from their references, relative to each reference's largest value.

    Raises InputError for references, outputs of a network, that are not finite.
    """
    if not all(reference.isfinite().all() for reference in references):
        raise InputError("weights: the network's outputs are not finite; was it trained or calibrated?")
    pairs = zip(outputs, references, strict=True)
    errors = [(output - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30) for output, wanted in pairs]
    return float(torch.stack(errors).max())
