"""The history in last.ckpt, which holds everything a cell needs to go on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mobileone_core.errors import InputError
from mobileone_core.training.observer import EpochRecord


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
