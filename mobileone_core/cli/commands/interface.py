"""All that an application needs to know about an exported file, as JSON for its manifest and its metadata."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mobileone_core.cli.commands.source import NetworkSource
from mobileone_core.cli.options.network import Export
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.detection import DeployedDetector

NOT_STATED = "not stated"
BOXES = "left, top, right, bottom in pixels of the input"
NMS = (
    "per class: boxes with a score above score_threshold, at most `detections` of them, the best; from the best to the "
    "worst, one goes if its intersection over union with one that stays is above overlap; then the best of all classes"
)


def exported_interface(
    options: Export, preprocessing: Preprocessing, labels: Sequence[str], source: NetworkSource, data: str
) -> dict[str, Any]:
    """Inputs, outputs, preprocessing, labels, and where the weights come from; data is the data set's title."""
    network, cell = source.network, source.card.cell if source.card else None
    classes, task = network.num_classes, source.task
    run = f", run {source.run_id}" if source.run_id else ""
    name = (cell and cell.backbone) or f"MobileOne {source.variant}, one convolution per block"
    verb = {"classification": "classifies", "detection": "detects", "segmentation": "segments"}[task]
    usual = f"{name}: {verb} {classes} classes of {data}{run}"
    more: dict[str, Any] = {}
    if cell and task != CellSpec.task:
        more = {"title": f"{cell.backbone or source.variant} {task}", "backbone": cell.backbone}
    if cell and isinstance(network, DeployedDetector):
        names = {"score_threshold": "score_threshold", "overlap": "nms_threshold", "detections": "detections"}
        rule = {name: getattr(cell.head, item) for name, item in names.items()}
        more |= network.facts() | {"nms": {"where": "inside" if options.nms else "outside", "rule": rule, "text": NMS}}
    is_coreml, size = options.chosen_format == "coreml", preprocessing.image_size
    dtype = options.chosen_precision if is_coreml else "float32"  # ONNX files take float32 in either precision
    batch = 1 if is_coreml or options.nms else options.batch_size or "batch"
    return {
        "task": task,
        "network": asdict(network.spec),
        "classes": classes,
        "image_size": size,
        "precision": options.chosen_precision,
        "input": options.input,
        "description": options.description or usual,
        "author": options.author or NOT_STATED,
        "license": options.license or NOT_STATED,
        "run": source.run_id,
        "data": data,
        "weights_sha256": source.sha256,
        "inputs": [_input(preprocessing, batch, dtype, is_image=options.input == "image")],
        "outputs": _outputs(options, source, size, batch, dtype),
        "preprocessing": {  # how a picture becomes the input
            "size": size,
            "resize": preprocessing.resize,  # the shorter side, or null for the whole picture to size x size
            "crop": None if preprocessing.crop is None else "center",
            "interpolation": preprocessing.interpolation,
            "antialias": True,
            "exif_orientation": "turned" if preprocessing.upright else "ignored",
            "text": _reading(preprocessing),
        },
        "labels": list(labels),
        **more,
    }


def _input(preprocessing: Preprocessing, batch: int | str, dtype: str, *, is_image: bool) -> dict[str, Any]:
    """The input tensor; range is that of pixels before they are normalized, outside or inside the file."""
    size, color = preprocessing.image_size, preprocessing.color
    text, place = f"{color} images, NCHW, (pixel / 255 - mean) / std per channel", "outside"
    if is_image:
        text, place = f"{color} image of {size} x {size} pixels", "inside"
    return {
        "name": "images",
        "shape": [batch, preprocessing.channels, size, size],
        "dtype": "uint8" if is_image else dtype,
        "layout": "NCHW",
        "color": color,
        "range": [0, 255] if is_image else [0.0, 1.0],
        "normalization": place,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "description": f"{text}; {_reading(preprocessing)}",
    }


def _reading(preprocessing: Preprocessing) -> str:
    size, kind = preprocessing.image_size, f"{preprocessing.interpolation}, antialiased"
    if preprocessing.resize is None:
        return f"the whole picture resized to {size} x {size} ({kind})"
    return f"shorter side resized to {preprocessing.resize} ({kind}), centre of {size} x {size} cut out"


def _outputs(options: Export, source: NetworkSource, size: int, batch: int | str, dtype: str) -> list[dict[str, Any]]:
    network, classes = source.network, source.network.num_classes
    logits = "logits, one per class in the order of labels; softmax gives probabilities"
    rows: list[tuple[object, ...]] = [("logits", [batch, classes], dtype, logits)]
    if isinstance(network, DeployedDetector) and options.nms:
        rows = [("boxes", ["detections", 4], dtype, BOXES), ("scores", ["detections"], dtype, "best first")]
        rows += [("classes", ["detections"], "int64", "number of the class in labels, from 0")]
    elif isinstance(network, DeployedDetector):
        rows = [("boxes", [batch, len(network.centres), 4], dtype, f"{BOXES}, one per anchor, before NMS")]
        scores = "probability of every class in the order of labels; the background has the rest"
        rows += [("scores", [batch, len(network.centres), classes], dtype, scores)]
    elif source.task == "segmentation":
        logits = "logits per pixel, one per class in the order of labels; the class of the largest is the pixel's"
        rows = [("logits", [batch, classes, size, size], dtype, logits)]
    elif options.input == "image":
        rows = [("classLabel", [], "string", "most probable class")]  # Core ML's names
        rows += [("classLabel_probs", [classes], "dictionary", "probability of every class by its label")]
    return [dict(zip(("name", "shape", "dtype", "description"), row, strict=True)) for row in rows]
