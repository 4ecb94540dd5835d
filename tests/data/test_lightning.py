"""The loaders as Lightning's Trainer uses them: each epoch read once, in order, resumed in the middle of training."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.loaders import LoaderOptions, Loaders, open_loaders

FolderMaker = Callable[[Mapping[str, int]], Path]
EPOCHS = 3


class Reader(lightning.LightningModule):
    """Keeps a sum of every batch it is given."""

    def __init__(self, loaders: Loaders) -> None:
        super().__init__()
        self.loaders, self.seen, self.validated = loaders, [], 0
        self.layer = nn.Linear(1, 1)

    def on_train_epoch_start(self) -> None:
        self.loaders.train.set_epoch(self.current_epoch, self.current_epoch / EPOCHS)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        self.seen.append(float(batch[0].double().sum()))
        return self.layer(batch[0].mean().view(1, 1)).sum()

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> None:
        self.validated += len(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(loaders: Loaders, folder: Path, epochs: int, resume: Path | None = None) -> Reader:
    module = Reader(loaders)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    with loaders:
        trainer.fit(module, loaders.train, loaders.val, ckpt_path=resume, weights_only=False)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def expected(loaders: Loaders) -> list[float]:
    sums = []
    with loaders:
        for number in range(EPOCHS):
            loaders.train.set_epoch(number, number / EPOCHS)
            sums += [float(images.double().sum()) for images, _ in loaders.train]
    return sums


@pytest.fixture(params=["digits", "folder"])
def opened(request: pytest.FixtureRequest, make_folder: FolderMaker) -> Callable[[], Loaders]:
    if request.param == "digits":
        return lambda: open_loaders(resolve_data("digits", None), None, 0, LoaderOptions(256, "crop"))
    root = make_folder({"train": 8, "val": 3})
    spec = resolve_data("folder", root, image_size=16)
    return lambda: open_loaders(spec, root, 0, LoaderOptions(4, "resized_crop_flip", workers=1))


@pytest.mark.slow
def test_every_epoch_is_read_once_and_resumed_exactly(opened: Callable[[], Loaders], tmp_path: Path):
    whole = fit(opened(), tmp_path, EPOCHS)
    assert whole.seen == expected(opened())
    with opened() as loaders:
        assert whole.validated == EPOCHS * sum(len(labels) for _, labels in loaders.val)
    first = fit(opened(), tmp_path, 1)
    rest = fit(opened(), tmp_path, EPOCHS, resume=tmp_path / "last.ckpt")
    assert first.seen + rest.seen == whole.seen
