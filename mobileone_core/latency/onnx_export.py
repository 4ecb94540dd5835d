"""A network as an ONNX file."""

import contextlib
import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def export_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    """Write a network in evaluation mode, for inputs of exactly this shape (B, C, H, W); one file, weights inside.

    Input "images", output "logits". Silent: the exporter's progress and warnings are of no use to a person.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images,),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            optimize=True,
            external_data=False,
            verbose=False,
        )
