"""Whether a package is the network: its operators counted, every weight compared, the program run against torch."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.coreml.census import expected_census
from mobileone_core.coreml.convert import PixelNetwork, whole_network
from mobileone_core.coreml.evaluate import evaluate
from mobileone_core.coreml.half import rounded, rounded_constants
from mobileone_core.coreml.operators import Value
from mobileone_core.coreml.options import Options, Pixels
from mobileone_core.coreml.program import Name, Operation, Program, read_program
from mobileone_core.errors import InputError
from mobileone_core.model.network import MobileOne

TOLERANCE = 1e-4  # of the largest output
SEED = 0


class NotVerifiedError(InputError):
    """The program is not the network; the message says in what they differ."""


@dataclass(frozen=True)
class Verification:
    """What was found. error: largest difference from torch over the largest output, torch with rounded weights and
    input for float16. half_difference: what float16 changes, each map rounded, likewise over torch in float32; None
    for a float32 program."""

    census: dict[str, int]
    weights: int
    error: float
    half_difference: float | None


def verify(package: Path, network: MobileOne, options: Options) -> Verification:
    """Hold a package against the deployed network that it was made from.

    Raises NotVerifiedError for a census that is not the spec's, a weight that is not the network's, or outputs that
    differ by more than TOLERANCE; InputError for operators that are not known and outputs that are not finite.
    """
    program = read_program(package)
    census, expected = program.census(), expected_census(network.spec, options)
    if census != expected:
        raise NotVerifiedError(f"{package.name}: operators are not the network's; {_difference(census, expected)}")
    weights = match_weights(program, network, options)
    images = random_images(network.spec.in_channels, options)
    error = worst_error(program, network, images, options)
    return Verification(census, weights, error, _half_difference(program, network, images, options))


def random_images(channels: int, options: Options) -> Tensor:
    """One image (1, C, S, S): normal numbers, or whole pixels from 0 to 255 where the input is an image."""
    generator, shape = torch.Generator().manual_seed(SEED), (1, channels, options.image_size, options.image_size)
    if options.pixels:
        return torch.randint(256, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def worst_error(program: Program, network: nn.Module, images: Tensor, options: Options) -> float:
    """The largest difference between the program's logits and torch's, over torch's largest.

    network takes a normalized tensor. For an image as input probabilities and label are checked against the program's
    logits besides. Raises NotVerifiedError above TOLERANCE, InputError for outputs that are not finite.
    """
    whole = whole_network(network, options)
    if options.precision == "float16":
        whole, images = rounded(whole), images.half().float()
    with torch.inference_mode(), rounded_constants() if options.precision == "float16" else contextlib.nullcontext():
        reference = _logits_of(whole, images)
    if not reference.isfinite().all():
        raise InputError("weights: the network's outputs are not finite; was it trained or calibrated?")
    outputs = evaluate(_to_logits(program, options), dict.fromkeys(program.inputs, images))
    logits = _first_tensor(outputs)
    error = _relative(logits, reference)
    if not error <= TOLERANCE:
        raise NotVerifiedError(f"the program's outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    if options.pixels:
        _check_classes(outputs, logits, options.pixels)
    return error


def match_weights(program: Program, network: nn.Module, options: Options) -> int:
    """Compare the weights of every convolution and linear layer, bit by bit and in order; how many arrays there are.

    Raises NotVerifiedError naming the first that differs.
    """
    layers = [(name, item) for name, item in network.named_modules() if isinstance(item, nn.Conv2d | nn.Linear)]
    operations = [item for item in program.operations if item.kind in ("conv", "linear")]
    if len(layers) != len(operations):
        raise NotVerifiedError(f"the program has {len(operations)} layers with weights, the network {len(layers)}")
    count = 0
    for (name, layer), operation in zip(layers, operations, strict=True):
        for part, wanted in layer.named_parameters():
            _match(operation, part, f"{name}.{part}", wanted.detach().to(getattr(torch, options.precision)))
            count += 1
    return count


def _match(operation: Operation, part: str, name: str, wanted: Tensor) -> None:
    found = operation.inputs.get(part)
    if not isinstance(found, np.ndarray):
        raise NotVerifiedError(f"{name}: the program's {operation.kind} has no {part} of its own")
    if found.shape != tuple(wanted.shape) or found.dtype != wanted.numpy().dtype:
        shape, other = (found.shape, found.dtype), (tuple(wanted.shape), wanted.numpy().dtype)
        raise NotVerifiedError(f"{name}: the program holds {shape[0]} {shape[1]}, the network {other[0]} {other[1]}")
    differing = int((found != wanted.numpy()).sum())
    if differing:
        raise NotVerifiedError(f"{name}: {differing} of {found.size} numbers are not the network's")


def _half_difference(program: Program, network: MobileOne, images: Tensor, options: Options) -> float | None:
    if options.precision == "float32":
        return None
    with torch.inference_mode():
        reference = _logits_of(whole_network(network, options), images)
    inputs = dict.fromkeys(program.inputs, images.half().float())
    return _relative(_first_tensor(evaluate(_to_logits(program, options), inputs, rounds=True)), reference)


def _logits_of(network: nn.Module, images: Tensor) -> Tensor:
    out: Tensor = network.logits(images) if isinstance(network, PixelNetwork) else network(images)
    return out


def _to_logits(program: Program, options: Options) -> Program:
    """The program with its logits as first output: probabilities hide differences where one class has all."""
    if options.pixels is None:
        return program
    inputs = [item.inputs["x"] for item in program.operations if item.kind == "softmax"]
    names = tuple(item.text for item in inputs[-1:] if isinstance(item, Name))
    if len(names) != 1 or program.operations[-1].kind != "classify":
        raise NotVerifiedError("the program does not end in softmax and classify")
    return replace(program, outputs=(*names, *program.outputs))


def _first_tensor(outputs: dict[str, Value]) -> Tensor:
    return next(value for value in outputs.values() if isinstance(value, Tensor))


def _check_classes(outputs: dict[str, Value], logits: Tensor, pixels: Pixels) -> None:
    """Probabilities are the softmax of the logits, and the label is that of the largest."""
    _, *rest = outputs.values()
    for value in rest:
        if isinstance(value, Tensor) and not (value - logits.softmax(1)).abs().max() <= TOLERANCE:
            raise NotVerifiedError("the program's probabilities are not the softmax of its logits")
        best = pixels.labels[int(logits.argmax())]
        if isinstance(value, str) and value != best:
            raise NotVerifiedError(f"the program calls the image {value!r}, its logits say {best!r}")


def _relative(found: Tensor, reference: Tensor) -> float:
    if found.shape != reference.shape:
        raise NotVerifiedError(f"the program gives {tuple(found.shape)}, torch {tuple(reference.shape)}")
    return float((found - reference).abs().max() / reference.abs().max().clamp(min=1e-30))


def _difference(census: dict[str, int], expected: dict[str, int]) -> str:
    def lines() -> Iterator[str]:
        for kind in sorted(census | expected):
            if census.get(kind, 0) != expected.get(kind, 0):
                yield f"{kind} {census.get(kind, 0)} instead of {expected.get(kind, 0)}"

    return ", ".join(lines())
