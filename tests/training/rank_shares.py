"""Training in which every rank has its share of each batch, in other processes too."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, set_sync_batchnorm
from mobileone_core.model.spec import BlockExecution, ModelSpec
from mobileone_core.training.distributed import data_parallel

SPEC = ModelSpec.preset("tiny", k=2, se=(0, 0, 1, 1))  # depthwise blocks of both strides
BATCH, CLASSES, STEPS = 6, 5, 6


class Setting(NamedTuple):
    """How to train; sizes are the shares, None the whole batch in one process."""

    dtype: torch.dtype = torch.float64
    execution: BlockExecution = "folded"
    sizes: tuple[int, ...] | None = (3, 3)
    sync_batchnorm: bool = True
    image_size: int = 16


SETTINGS = {
    "folded": Setting(),
    "auto": Setting(execution="auto"),
    "uneven": Setting(sizes=(1, 5), image_size=8),  # the last maps have one pixel: rank 0 has a single value a channel
    "float32": Setting(torch.float32),
    "apart": Setting(sync_batchnorm=False),
    "branches": Setting(execution="branches"),
}
THREE = {"three": Setting(sizes=(3, 1, 2))}


def network_of(setting: Setting) -> nn.Module:
    torch.manual_seed(0)
    network = build_model(SPEC, CLASSES, setting.execution).to(setting.dtype).train()
    return set_sync_batchnorm(network, setting.sync_batchnorm)


def images(setting: Setting, step: int = 0) -> Tensor:
    """The whole batch of a step."""
    shape = (BATCH, 3, setting.image_size, setting.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64).to(setting.dtype)


def trained(setting: Setting, rank: int = 0) -> dict[str, Tensor]:
    """State dict after some steps of SGD with momentum on the mean loss of the whole batch."""
    network, sizes = network_of(setting), setting.sizes or (BATCH,)
    forward = data_parallel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(STEPS):
        whole = images(setting, step), torch.arange(BATCH) % CLASSES
        share, labels = (item.split(sizes)[rank] for item in whole)
        loss = F.cross_entropy(forward(share), labels, reduction="sum") * len(sizes) / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def train_all(rank: int, device: torch.device, directory: Path, settings: Mapping[str, Setting]) -> None:
    """Keeps what every setting came to, the words of the error where it was refused, and a lone evaluation's output."""
    results: dict[str, object] = {}
    for name, setting in settings.items():
        try:
            results[name] = trained(setting, rank)
        except InputError as error:
            results[name] = str(error)
    if rank == 0:
        results["evaluation"] = network_of(Setting()).eval()(images(Setting()))
    torch.save(results, directory / f"{rank}.pt")
