"""Whether a package is the network: its operators counted, every weight compared, the program run against torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobileone_core.coreml.census import expected_census
from mobileone_core.coreml.convert import whole_network
from mobileone_core.coreml.evaluate import evaluate
from mobileone_core.coreml.half import rounded, rounded_constants
from mobileone_core.coreml.operators import Value
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.program import Operation, Program, read_program
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
    error = worst_error(program, whole_network(network, options), images, options)
    return Verification(census, weights, error, _half_difference(program, network, images, options))


def random_images(channels: int, options: Options) -> Tensor:
    """One image (1, C, S, S): normal numbers, or whole pixels from 0 to 255 where the input is an image."""
    generator, shape = torch.Generator().manual_seed(SEED), (1, channels, options.image_size, options.image_size)
    if options.pixels:
        return torch.randint(256, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def worst_error(program: Program, network: nn.Module, images: Tensor, options: Options) -> float:
    """The largest difference between program and torch, over torch's largest output.

    Raises NotVerifiedError above TOLERANCE or where the label is not torch's, InputError for outputs that are not
    finite.
    """
    if options.precision == "float16":
        images = images.half().float()
        with torch.inference_mode(), rounded_constants():
            reference = rounded(network)(images)
    else:
        with torch.inference_mode():
            reference = network(images)
    if not reference.isfinite().all():
        raise InputError("weights: the network's outputs are not finite; was it trained or calibrated?")
    outputs = evaluate(program, dict.fromkeys(program.inputs, images))
    error = _relative(_scores(outputs), reference)
    if not error <= TOLERANCE:
        raise NotVerifiedError(f"the program's outputs differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}")
    _check_label(outputs, reference, options)
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
        reference = whole_network(network, options)(images)
    half = evaluate(program, dict.fromkeys(program.inputs, images.half().float()), rounds=True)
    return _relative(_scores(half), reference)


def _scores(outputs: dict[str, Value]) -> Tensor:
    [scores] = [value for value in outputs.values() if isinstance(value, Tensor)]
    return scores


def _check_label(outputs: dict[str, Value], reference: Tensor, options: Options) -> None:
    """The label is torch's best class, or one as probable within the tolerance."""
    for label in (value for value in outputs.values() if isinstance(value, str)):
        labels = options.pixels.labels if options.pixels else ()
        odds = reference[0, labels.index(label)] if label in labels else torch.tensor(0.0)
        if odds < reference.max() * (1 - 2 * TOLERANCE):
            best = labels[int(reference.argmax())]
            raise NotVerifiedError(f"the program calls the image {label!r}, torch {best!r}")


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
