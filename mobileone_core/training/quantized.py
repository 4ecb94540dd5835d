"""A cell with quantization: the network of a trained cell, quantized by ONNX Runtime and tested."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mobileone_core.data.epochs import BatchLoader
from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.onnx.int8 import OnnxNetwork, reduces_range
from mobileone_core.onnx.quantize import SimulatedInt8, quantize_network
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate, read_network
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import CellResult
from mobileone_core.training.tasks.task import build_task

BATCH = 64
INT8_FILE = "int8.onnx"  # artifact of a run


def quantize_cell(
    spec: CellSpec, trained: Path, execution: Execution, data_root: Path | None, directory: Path
) -> CellResult:
    """Quantize a trained cell's network and test the int8 file, on the CPU. Raises InputError.

    Writes int8.onnx. Metrics: test/... of the file in ONNX Runtime; simulated/top1 and simulated/loss of the same file
    executed with torch (SimulatedInt8); int8/bytes and float32/bytes, the sizes of the two files; int8/weight_bits;
    range/NN_weight, _channel and _input of every layer, see layer_ranges.
    """
    started = time.perf_counter()
    torch.set_num_threads(execution.threads)
    directory.mkdir(parents=True, exist_ok=True)
    task, cpu, file = build_task(spec), torch.device("cpu"), directory / INT8_FILE
    options = LoaderOptions(BATCH, "none", workers=execution.threads)
    network = read_network(spec.model, read_weights(trained), "deployed")
    with open_loaders(spec.data, data_root, spec.seed, options) as loaders:
        calibration = calibration_batches(loaders.train, spec.quantization.images)
        ranges, float_bytes = quantize_network(network, spec.quantization, calibration, file)
        tested = evaluate(OnnxNetwork(file, execution.threads), task, loaders.test, stage="test", device=cpu)
        simulated = evaluate(SimulatedInt8(file), task, loaders.test, stage="simulated", device=cpu)
        tested["test/majority"] = loaders.majority
    metrics = {name: value for name, value in tested.items() if name.startswith("test/")}
    metrics |= {name: simulated[name] for name in ("simulated/top1", "simulated/loss")}
    metrics |= {"int8/bytes": float(file.stat().st_size), "float32/bytes": float(float_bytes)}
    metrics["int8/weight_bits"] = 7.0 if reduces_range() else 8.0
    for index, layer in enumerate(ranges):
        metrics |= {f"range/{index:02}_{name}": value for name, value in layer.items()}
    return CellResult({**metrics, "time/train_seconds": time.perf_counter() - started}, file)


def calibration_batches(loader: BatchLoader, images: int) -> Iterator[Tensor]:
    """The first images of a training loader's first epoch, in its shuffled order, as batches (B, C, S, S).

    Raises InputError if there are fewer, or if all pixels have one value.
    """
    taken, is_constant = 0, True
    for pixels, _ in loader:
        batch = pixels[: images - taken]
        taken += len(batch)
        is_constant = is_constant and bool((batch == batch[:1, :, :1, :1]).all())
        yield batch
        if taken == images:
            break
    if taken < images:
        raise InputError.of("images", images, f"at most the {taken} training images that can be read in whole batches")
    if is_constant:
        raise InputError("images: all calibration images have one colour; give images of the task")
