"""Which device a cell runs on, and the trainer that runs it there without a word."""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import Callback, Trainer

from mobileone_core.errors import require
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Precision, Recipe


def resolve_device(execution: Execution, precision: Precision) -> torch.device:
    """A device that is there and knows precision and layout; auto takes the first GPU where there is one.

    Several processes of a cell need as many GPUs: that one and the next ones.
    """
    count = torch.cuda.device_count()
    device = torch.device(("cuda" if count else "cpu") if execution.device == "auto" else execution.device)
    if device.type == "cuda":
        index = device.index or 0
        allowed = f"this machine has {count} CUDA devices"
        require(index < count, "device", execution.device, allowed)
        require(index + execution.processes <= count, "processes", execution.processes, f"one a GPU, and {allowed}")
        return torch.device("cuda", index)
    require(precision != "16-mixed", "precision", precision, "on a CPU it is 32 or bf16-mixed")
    # torch 2.14's backward of a channels-last 1x1 convolution, 3 channels, stride 2 (the stem), writes out of bounds
    require(not execution.channels_last, "channels_last", True, "it needs a GPU: on a CPU torch corrupts memory")
    return device


def build_trainer(recipe: Recipe, device: torch.device, callbacks: Sequence[Callback], directory: Path) -> Trainer:
    """One process on one device: no logger, no display, no checkpoints but our own, whatever cluster it runs in."""
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1 if device.index is None else [device.index],
        precision="32-true" if recipe.precision == "32" else recipe.precision,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_norm or None,
        callbacks=list(callbacks),
        plugins=[LightningEnvironment()],
        default_root_dir=directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        benchmark=False,  # picks kernels by stopwatch: not the same ones twice
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lightning without banners, tips and advice; Ctrl-C stays a KeyboardInterrupt."""
    logger, handler = logging.getLogger("pytorch_lightning"), signal.getsignal(signal.SIGINT)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\.")
            yield
    except SystemExit as leaving:  # Lightning's answer to Ctrl-C, with the signal switched off
        if isinstance(leaving.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from leaving
        raise
    finally:
        logger.setLevel(level)
