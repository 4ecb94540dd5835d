"""Classifiers by name, timm:NAME, torchvision:NAME or MODULE:FUNCTION with arguments; their expansion, as data."""

import ast
import copy
import importlib.util
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mobileone_core.errors import InputError, reason_of, require, require_integer
from mobileone_core.fields import check_options, option
from mobileone_core.files import sha256
from mobileone_core.model.libraries import LIBRARIES, build_classifier
from mobileone_core.model.spec import MAX_K, BlockMethod

if TYPE_CHECKING:
    from torch import nn

TEXT = re.compile(r"([A-Za-z_][\w.]*):([\w.:/-]+)(\(.*\))?(?:@([0-9a-f]{8}))?")
INSTALLED = {"site-packages", "dist-packages"}  # folders of code that has a version


@dataclass(frozen=True)
class Expansion:
    """How the convolutions of a network by name are over-parameterized in training. Raises InputError."""

    method: Literal["none", BlockMethod] = option(
        "none", "Branches of every convolution: none, or those of a method of model/expand."
    )
    k: int = option(4, "Branches of mobileone; expandnet's multiple.", partial(require_integer, at_most=MAX_K))

    def __post_init__(self) -> None:
        check_options(self)
        if self.method not in ("mobileone", "expandnet"):
            object.__setattr__(self, "k", Expansion.k)


def read_name(field: str, text: str) -> tuple[str, str, dict[str, Any], str]:
    """Read LIBRARY:NAME(argument=literal, ...)@digest into its four parts; execute nothing of it. Raises InputError.

    >>> read_name("backbone", "torchvision:mobilenet_v2(width_mult=0.25)")
    ('torchvision', 'mobilenet_v2', {'width_mult': 0.25}, '')
    """
    allowed = "timm:NAME, torchvision:NAME or MODULE:FUNCTION, with arguments like (width_mult=0.25, depths=[1, 2])"
    match = TEXT.fullmatch(text)
    library, name, call, digest = match.groups("") if match else ("", "", "?", "")
    try:
        parsed: Any = ast.parse(f"f{call or '()'}", mode="eval").body
        arguments = {item.arg: ast.literal_eval(item.value) for item in parsed.keywords}
        fits = isinstance(parsed.func, ast.Name) and not parsed.args and None not in arguments
        fits = fits and len(arguments) == len(parsed.keywords)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        arguments, fits = {}, False
    require(fits, field, text, allowed)
    require("checkpoint_path" not in arguments, field, text, "no checkpoint_path: networks start at random")
    is_standard = library.partition(".")[0] in sys.stdlib_module_names
    require(not is_standard, field, text, "a module of networks, not one of Python's")
    return library, name, arguments, digest


def pinned(field: str, text: str) -> str:
    """The name with the first digits of the SHA-256 of a module's file, if one's own. Raises InputError for another."""
    library, _, _, pin = read_name(field, text) if ":" in text else ("timm", "", {}, "")  # a variant needs none
    if library in LIBRARIES:
        return text
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.util.find_spec(library)
    except (ImportError, ValueError):
        module = None
    require(module is not None, field, text, "a module in the current directory or on PYTHONPATH")
    path = Path(str(module.origin if module else ""))
    digest = "" if INSTALLED & set(path.parts) or not path.is_file() else sha256(path)[:8]
    require(pin in ("", digest), field, text, f"{path} has changed: its SHA-256 begins with {digest}")
    return f"{text}@{digest}" if digest and not pin else text


def classifier_by_name(
    field: str, text: str, num_classes: int, shape: tuple[int, int, int, int], sizes: Sequence[int] = ()
) -> "nn.Module":
    """Build a network by name, at random weights, that maps images (1, C, H, W) of a shape to logits (1, num_classes).

    A function of one's own is called with num_classes and the name's arguments. The first convolution of a network for
    colour reads a grey image as three equal channels. sizes are further ones in pixels that it must read, too. Raises
    InputError.
    """
    from torch import nn

    library, name, arguments, _ = read_name(field, text)
    is_grey = shape[1] == 1 and library != "timm"
    if library in LIBRARIES:
        channels, options = 3 if is_grey else shape[1], {"image_size": shape[2], **arguments}
        network = build_classifier(field, f"{library}:{name}", num_classes, channels, **options)
    else:
        pinned(field, text)
        try:
            network = getattr(importlib.import_module(library), name)(num_classes=num_classes, **arguments)
        except Exception as error:  # whatever a user's code raises
            raise InputError(f"{field}: {text} cannot be built: {reason_of(error, 200)}") from error
        require(isinstance(network, nn.Module), field, text, "a function that returns a torch.nn.Module")
    conv = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if is_grey and conv is not None and (conv.in_channels, conv.groups) == (3, 1):
        conv.in_channels, conv.weight = 1, nn.Parameter(conv.weight.detach().sum(1, keepdim=True))
    for sides in (shape[2:], *((size, size) for size in sizes)):
        check_outputs(field, text, copy.deepcopy(network), (*shape[:2], *sides), num_classes, trains=True)
    return network


def check_outputs(  # noqa: PLR0913
    field: str, text: str, network: "nn.Module", shape: tuple[int, ...], num_classes: int, *, trains: bool = False
) -> None:
    """Raise InputError unless images of a shape (1, C, H, W) give finite logits (1, num_classes), in training too."""
    import torch

    images = f"{shape[1]} x {shape[2]} x {shape[3]}"
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            logits = [network.eval()(torch.zeros(shape))]
            logits += [network.train()(torch.zeros(2, *shape[1:]))[:1]] if trains else []  # BN needs two
    except Exception as error:
        raise InputError(f"{field}: {text} cannot read images of {images}: {reason_of(error, 200)}") from error
    fits = all(isinstance(item, torch.Tensor) and item.shape == (1, num_classes) for item in logits)
    fits = fits and math.isfinite(logits[0].sum())
    require(fits, field, text, f"its outputs for images of {images} are no finite logits of {num_classes} classes")
