"""A network as an ONNX file."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def export_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    """Write a network in evaluation mode to one file, weights inside, for images of exactly this shape.

    Input and output are called images and logits. The exporter's own talk is held back; its errors are not.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
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
    finally:
        logger.setLevel(level)
