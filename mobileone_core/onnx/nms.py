"""Non-maximum suppression as the end of an ONNX detector, as torchvision's SSD computes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


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
        values = {"IR": ir_version, "OPSET": opset, "LIMIT": self.detections, "OVERLAP": self.overlap}
        for name, value in {**values, "THRESHOLD": self.score_threshold}.items():
            text = text.replace(name, str(value))
        return onnx.parser.parse_model(text)


def add_suppression(path: Path, rule: Suppression, images: Tensor) -> None:
    """Let a file of a detector, whose outputs are boxes and scores of one image, return what rule leaves of them.

    images: (1, C, S, S), for which the file must run; what it runs into is raised.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    (opset,) = [item.version for item in model.opset_import if not item.domain]
    detector, end = (
        onnx.compose.add_prefix(model, "detector/", rename_inputs=False),
        rule.model(model.ir_version, opset),
    )
    joins = [(f"detector/{name}", f"raw_{name}") for name in ("boxes", "scores")]
    onnx.save(onnx.compose.merge_models(detector, end, joins), path)
    onnx.checker.check_model(str(path), full_check=True)
    onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
