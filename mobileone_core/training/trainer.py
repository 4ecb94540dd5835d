"""The Lightning trainer of a cell, without a word."""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import Callback, Trainer

from mobileone_core.training.recipe import Recipe


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
