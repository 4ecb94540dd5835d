"""last.ckpt: everything a cell needs to go on, whole or not at all."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mobileone_core.errors import InputError
from mobileone_core.training.observer import EpochRecord


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write aside and rename: the file is the old one or the new one, never half of one."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def pack_history(history: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """The history as plain data, which weights-only loading admits."""
    return [{**asdict(record), "metrics": dict(record.metrics)} for record in history]


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs that a checkpoint holds; InputError where the file cannot be read. Executes no pickled code."""
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return [EpochRecord(**record) for record in content["history"]]
    except Exception as error:  # a broken file raises any of a dozen
        message = f"{path}: not a checkpoint of this version; delete it to start this cell afresh"
        raise InputError(message) from error
