"""Verifies a package against its network: counts operators, compares every weight, and runs both on one image."""

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mobileone_core.coreml.convert import PixelNetwork, whole_network
from mobileone_core.coreml.evaluate import evaluate
from mobileone_core.coreml.operators import Value
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.program import Name, Operation, Program, read_program
from mobileone_core.errors import InputError
from mobileone_core.model.network import ExportNetwork, MobileOne, outputs_of
from mobileone_core.model.spec import ModelSpec
from mobileone_core.onnx.export import relative_error

TOLERANCE = 1e-4  # relative to the largest output
HALF_STEP = 0.57  # 0.5, and the rounding of 127 steps to float16
SEED = 0
SIXTH = float(torch.tensor(1 / 6).half())
HEAD = Counter(reduce_mean=1, reshape=1, linear=1)
CONTEXT = Counter(reduce_mean=1, conv=2, relu=1)  # the small network behind SE and the dynamic activations
SQUEEZE_EXCITE = CONTEXT + Counter(sigmoid=1, mul=1)
DYNAMIC_RELU = CONTEXT + Counter(sigmoid=1, mul=5, sub=1, split=1, add=3, maximum=1)
SHIFT_MAX = CONTEXT + Counter(sigmoid_hard=1, mul=5, sub=1, split=1, slice_by_index=2, concat=1, add=4, maximum=1)
ACTIVATIONS = {
    **{name: Counter([name]) for name in ("relu", "gelu", "silu")},
    "hardswish": Counter(thresholded_relu=1, sigmoid_hard=1, mul=1),
    "dynamic_relu_a": DYNAMIC_RELU,
    "dynamic_relu_b": DYNAMIC_RELU,
    "dynamic_shift_max": SHIFT_MAX,
}


class NotVerifiedError(InputError):
    """The program differs from the network; the message says how."""


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    census counts operators by kind, weights the compared arrays. error is the largest difference from torch relative to
    the largest output; for float16, torch has rounded weights and input. half_difference is the effect of float16: the
    same with every activation rounded, relative to torch in float32; None for a float32 program.
    """

    census: dict[str, int]
    weights: int
    error: float
    half_difference: float | None


def verify(package: Path, network: ExportNetwork, options: Options) -> Verification:
    """Verify a package against the deployed network that it was converted from.

    Operators are compared of classifiers, and weights of networks without BatchNorm, which the converter folds.
    Raises NotVerifiedError if operators, a weight, or outputs by more than TOLERANCE differ, and InputError for
    unsupported operators and for outputs that are not finite.
    """
    program = read_program(package)
    census = program.census()
    if isinstance(network, MobileOne) and census != (expected := expected_census(network.spec, options)):
        raise NotVerifiedError(f"{package.name}: operators are not the network's; {_difference(census, expected)}")
    is_folded = not any(isinstance(item, nn.BatchNorm2d) for item in network.modules())
    weights = match_weights(program, network, options) if is_folded else 0
    network = int8_network(program, network) if options.int8 else network
    images = random_images(network.spec.in_channels, options)
    error = worst_error(program, network, images, options)
    return Verification(census, weights, error, _half_difference(program, network, images, options))


def expected_census(spec: ModelSpec, options: Options) -> dict[str, int]:
    """Return the operators that a deployed network must have, by kind and number, derived from its spec.

    One convolution and activation per block, SE if the spec has it, and the head; with an image as input also its
    normalization, softmax and label, and in float16 the casts at both ends.
    """
    counts = Counter(HEAD)
    for block in (spec.stem(), *chain.from_iterable(spec.stages())):
        counts += Counter(conv=1) + ACTIVATIONS[spec.activation]
        if block.se:
            counts += SQUEEZE_EXCITE
    if options.labels:
        counts += Counter(add=1, mul=1, softmax=1, classify=1)
        counts += Counter(cast=2 if options.precision == "float16" else 0)
    return dict(counts)


def random_images(channels: int, options: Options) -> Tensor:
    """Return one seeded image (1, C, S, S): normal values, or integers from 0 to 255 if the input is an image."""
    generator, shape = torch.Generator().manual_seed(SEED), (1, channels, options.image_size, options.image_size)
    if options.pixels:
        return torch.randint(256, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def worst_error(program: Program, network: nn.Module, images: Tensor, options: Options) -> float:
    """Return the largest difference between the program's and torch's outputs, relative to each one's largest.

    network takes a normalized tensor. If the program classifies an image, the outputs are its logits, and probabilities
    and label are also checked against them. Raises NotVerifiedError above TOLERANCE, InputError for outputs that are
    not finite.
    """
    whole, is_half = whole_network(network, options), options.precision == "float16"
    if is_half:
        whole, images = copy.deepcopy(whole).half().float(), images.half().float()
    with torch.inference_mode(), _RoundedConstants() if is_half else contextlib.nullcontext():
        references = _raw_outputs(whole, images)
    outputs = evaluate(_to_logits(program, options), dict.fromkeys(program.inputs, images))
    error = _relative(outputs, references)
    if not error <= TOLERANCE:
        raise NotVerifiedError(f"the program's outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    if options.labels:
        _check_classes(outputs, options.labels)
    return error


def match_weights(program: Program, network: nn.Module, options: Options) -> int:
    """Compare the weights of every convolution and linear layer in order, bit for bit, and count the arrays.

    Weights of int8 must be within half a step of the network's, a step being 1/127 of a channel's largest. Raises
    NotVerifiedError that names the first difference.
    """
    layers, operations = _layers(program, network)
    if len(layers) != len(operations):
        raise NotVerifiedError(f"the program has {len(operations)} layers with weights, the network {len(layers)}")
    count = 0
    for (name, layer), operation in zip(layers, operations, strict=True):
        for part, parameter in layer.named_parameters():
            expected = parameter.detach().to(getattr(torch, options.precision))
            _match(operation, part, f"{name}.{part}", expected, int8=options.int8 and part == "weight")
            count += 1
    return count


def _layers(program: Program, network: nn.Module) -> tuple[list[tuple[str, nn.Conv2d | nn.Linear]], list[Operation]]:
    layers = [(name, item) for name, item in network.named_modules() if isinstance(item, nn.Conv2d | nn.Linear)]
    return layers, [item for item in program.operations if item.kind in ("conv", "linear")]


def int8_network(program: Program, network: ExportNetwork) -> ExportNetwork:
    """A copy of the network with the dequantized weights of its program."""
    network = copy.deepcopy(network)
    layers, operations = _layers(program, network)
    for (_, layer), operation in zip(layers, operations, strict=True):
        layer.weight.data.copy_(torch.from_numpy(np.array(operation.inputs["weight"])))
    return network


def _match(operation: Operation, part: str, name: str, parameter: Tensor, *, int8: bool) -> None:
    expected, actual = parameter.numpy(), operation.inputs.get(part)
    if not isinstance(actual, np.ndarray):
        raise NotVerifiedError(f"{name}: the program's {operation.kind} has no constant {part}")
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        given, required = (f"{item.shape} {item.dtype}" for item in (actual, expected))
        raise NotVerifiedError(f"{name}: the program has {given}, the network {required}")
    if int8:
        wanted = expected.astype(np.float32)
        steps = np.abs(wanted).reshape(len(wanted), -1).max(1).reshape(-1, *[1] * (wanted.ndim - 1)) / 127
        error = float((np.abs(actual - wanted) / np.maximum(steps, 1e-30)).max())
        if not error <= HALF_STEP:
            raise NotVerifiedError(f"{name}: a weight is {error:.2f} steps from the network's, allowed 0.5")
        return
    differing = int((actual != expected).sum())
    if differing:
        raise NotVerifiedError(f"{name}: {differing} of {actual.size} values differ from the network's")


class _RoundedConstants(TorchFunctionMode):
    """Compute hard sigmoid and hard swish with 1/6 rounded to float16, as Core ML stores it (relative error 2e-4)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.hardsigmoid:
            return _hard_sigmoid(args[0])
        if func is F.hardswish:
            return torch.where(args[0] >= -3, args[0], 0.0) * _hard_sigmoid(args[0])
        return func(*args, **(kwargs or {}))


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (SIXTH * x + 0.5).clamp(0, 1)


def _half_difference(program: Program, network: ExportNetwork, images: Tensor, options: Options) -> float | None:
    if options.precision == "float32":
        return None
    with torch.inference_mode():
        references = _raw_outputs(whole_network(network, options), images)
    inputs = dict.fromkeys(program.inputs, images.half().float())
    return _relative(evaluate(_to_logits(program, options), inputs, rounds=True), references)


def _raw_outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    return network.raw(images) if isinstance(network, PixelNetwork) else outputs_of(network, images)


def _to_logits(program: Program, options: Options) -> Program:
    """Return the program with its logits as first output: probabilities near 0 and 1 hide differences."""
    if not options.labels:
        return program
    inputs = [item.inputs["x"] for item in program.operations if item.kind == "softmax"]
    names = tuple(item.text for item in inputs[-1:] if isinstance(item, Name))
    if len(names) != 1 or program.operations[-1].kind != "classify":
        raise NotVerifiedError("the program does not end in softmax and classify")
    return replace(program, outputs=(*names, *program.outputs))


def _check_classes(outputs: dict[str, Value], labels: Sequence[str]) -> None:
    """Check that probabilities are the softmax of the logits and that the label belongs to the largest."""
    logits, *rest = outputs.values()
    assert isinstance(logits, Tensor)
    for value in rest:
        if isinstance(value, Tensor) and not (value - logits.softmax(1)).abs().max() <= TOLERANCE:
            raise NotVerifiedError("the program's probabilities are not the softmax of its logits")
        best = labels[int(logits.argmax())]
        if isinstance(value, str) and value != best:
            raise NotVerifiedError(f"the program calls the image {value!r}, its logits say {best!r}")


def _relative(outputs: Mapping[str, Value], references: Sequence[Tensor]) -> float:
    """The largest difference of the first outputs from torch's, relative to each one's largest."""
    tensors = [value for value in outputs.values() if isinstance(value, Tensor)][: len(references)]
    returned, expected = ([tuple(item.shape) for item in items] for items in (tensors, references))
    if returned != expected:
        raise NotVerifiedError(f"the program returns {returned}, torch {expected}")
    return relative_error(tensors, references)


def _difference(census: dict[str, int], expected: dict[str, int]) -> str:
    counts = {kind: (census.get(kind, 0), expected.get(kind, 0)) for kind in sorted(census | expected)}
    return ", ".join(f"{kind} {one} instead of {other}" for kind, (one, other) in counts.items() if one != other)
