"""Post-training quantization of an ONNX file to 8 bits by ONNX Runtime, and verification of the result."""

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.errors import InputError
from mobileone_core.onnx.export import quiet
from mobileone_core.onnx.scheme import Quantization

# Percentile: of an activation's absolute values that are kept. Bins: with ONNX Runtime's own 128 bins for 128 quantized
# values, entropy has one candidate alone, the range of all values.
CALIBRATORS: dict[str, tuple[str, dict[str, float]]] = {
    "minmax": ("MinMax", {}),
    "percentile": ("Percentile", {"percentile": 99.99, "num_bins": 2048}),
    "entropy": ("Entropy", {"num_bins": 512, "num_quantized_bins": 128}),
}
LAYERS = (nn.Conv2d, nn.Linear)
OPERATORS = ("Conv", "Gemm")  # the layers' in a file
QUANTIZED = "_quantized"  # ends the name of an int8 array


@cache
def reduces_range() -> bool:
    """Whether weights take 7 of the 8 bits here: on x86 processors without VNNI, 8-bit products saturate."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # no Linux: not known
        return True


def quantize_onnx(source: Path, target: Path, scheme: Quantization, batches: Iterable[Tensor]) -> None:
    """Write a float32 file of export_onnx as an int8 file.

    batches: calibration images (B, C, S, S), normalized; not read for scheme weights. Weights are int8 and symmetric,
    of 7 bits where reduces_range() says so. Layers are convolutions and linear layers.
    """
    per_channel = scheme.granularity == "channel"
    if scheme.scheme == "weights":
        _quantize_weights(source, target, per_channel)
        return
    from onnxruntime.quantization import CalibrationMethod, QuantType, calibrate, quantize_static

    name, options = CALIBRATORS[scheme.calibration]
    with quiet(), TemporaryDirectory() as folder:  # it advises preprocessing, which folding has done
        calibrator = calibrate.create_calibrator(
            source,
            augmented_model_path=str(Path(folder, "augmented.onnx")),
            calibrate_method=CalibrationMethod[name],
            extra_options=options,
        )
        feeds = ({"images": batch.numpy()} for batch in batches)
        calibrator.collect_data(SimpleNamespace(get_next=lambda: next(feeds, None)))
        calibrate.save_tensors_data(calibrator.compute_data(), Path(folder, "ranges.json"))
        quantize_static(
            source,
            target,
            per_channel=per_channel,
            reduce_range=reduces_range(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[name],
            extra_options={"WeightSymmetric": True},
            calibration_cache_path=Path(folder, "ranges.json"),
        )


def _quantize_weights(source: Path, target: Path, per_channel: bool) -> None:
    """Replace every layer's weights in a file by int8 values, scales and a DequantizeLinear node."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    arrays = {item.name: item for item in model.graph.initializer}
    nodes = []
    for node in (node for node in model.graph.node if node.op_type in OPERATORS):
        name = node.input[1]
        weight = numpy_helper.to_array(arrays[name])
        axes = tuple(range(1, weight.ndim)) if per_channel else None
        largest = np.abs(weight).max(axis=axes, keepdims=per_channel)
        scale = np.where(largest > 0, largest / (63 if reduces_range() else 127), 1).astype(np.float32)
        values = np.rint(weight / scale).astype(np.int8)
        model.graph.initializer.remove(arrays[name])
        parts: dict[str, Any] = {"quantized": values, "scale": scale.reshape(-1) if per_channel else scale}
        model.graph.initializer.extend(numpy_helper.from_array(item, f"{name}_{part}") for part, item in parts.items())
        inputs = [f"{name}_{part}" for part in parts]
        axis: dict[str, Any] = {"axis": 0} if per_channel else {}
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **axis))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, target)


def open_session(path: Path, threads: int) -> Any:
    """An InferenceSession of ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # idle threads that keep spinning would slow down the next entry
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxNetwork(nn.Module):
    """An ONNX file in ONNX Runtime, called like a network: images (B, C, S, S) to logits (B, classes), on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        super().__init__()
        self.session = open_session(path, threads)

    def forward(self, images: Tensor) -> Tensor:
        """Run a batch."""
        (logits,) = self.session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)


def layer_ranges(path: Path, network: nn.Module) -> list[dict[str, float]]:
    """The ranges of every layer of an int8 file, in the order of execution, compared with its network's weights.

    weight is the largest absolute weight, channel its median over output channels, input the span of the input, 0 if
    activations are not quantized.

    network: the deployed (and equalized) network that was quantized. Raises InputError if a dequantized weight is
    farther than half a step from the network's, or a layer is not quantized.
    """
    import onnx

    graph = onnx.load(path).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    parameters = dict(network.named_parameters())
    layers = [node for node in graph.node if node.op_type in OPERATORS]
    expected, ranges = sum(isinstance(module, LAYERS) for module in network.modules()), []
    if len(layers) != expected:
        raise InputError(f"{path.name}: it has {len(layers)} layers, the network {expected}")
    for node in layers:
        producer = producers.get(node.input[1])
        if producer is None or producer.op_type != "DequantizeLinear":
            raise InputError(f"{path.name}: the weights of {node.name} are not int8")
        name = producer.input[0].removesuffix(QUANTIZED)
        weight, values = parameters[name].detach().numpy(), arrays[producer.input[0]].astype(np.float32)
        steps = arrays[producer.input[1]].reshape(-1, *[1] * (weight.ndim - 1))
        error = float(np.abs(values - weight / steps).max())
        if not error <= 0.501:
            raise InputError(f"{path.name}: a weight of {name} is {error:.2f} steps from the network's, allowed 0.5")
        by_channel = np.abs(weight).reshape(len(weight), -1).max(1)
        source = producers.get(node.input[0])
        is_int8 = source is not None and source.op_type == "DequantizeLinear"
        span = float(arrays[source.input[1]]) * 255 if is_int8 and source else 0.0
        ranges.append({"weight": float(by_channel.max()), "channel": float(np.median(by_channel)), "input": span})
    return ranges
