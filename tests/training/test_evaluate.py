"""Metrics against float64 arithmetic, and the forms a weight file is read in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec
from mobileone_core.model.weights import export_weights
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate, read_network
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.task import build_task

CPU = torch.device("cpu")
SPEC = ModelSpec(widths=(8, 12), depths=(1, 1), k=2, stage_strides=(2, 2))


class Given(nn.Module):
    """Its images are its logits, (N, classes, 1, 1)."""

    def forward(self, images):
        return images.flatten(1)


def task_of(classes):
    """Classification without label smoothing."""
    return build_task(CellSpec(data=DataSpec(num_classes=classes), recipe=Recipe(label_smoothing=0.0)))


def measured(logits, labels, batch_size, **options):
    batches = zip(logits[:, :, None, None].split(batch_size), labels.split(batch_size), strict=True)
    return evaluate(Given(), task_of(logits.shape[1]), batches, stage="test", device=CPU, **options)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(1, 17), st.integers(0, 2**31))
def test_metrics_are_those_of_all_images_together(classes, count, batch_size, seed):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(count, classes)), random.integers(classes, size=count)
    found = measured(torch.tensor(logits).float(), torch.tensor(labels), batch_size)
    rank = (logits > logits[np.arange(count), labels][:, None]).sum(1)  # classes before the right one
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(count), labels]
    assert found["test/top1"] == pytest.approx((rank == 0).mean(), abs=1e-6)
    assert found["test/loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert found["test/images"] == count
    if classes > 5:
        assert found["test/top5"] == pytest.approx((rank < 5).mean(), abs=1e-6)
    else:
        assert "test/top5" not in found


def test_progress_counts_images_and_right_answers():
    calls = []
    labels = torch.tensor([0, 1, 1, 0, 1])

    def progress(images, metrics):
        calls.append((images, round(float(metrics["top1"].compute()) * images)))

    measured(torch.eye(2)[[0, 1, 0, 0, 1]], labels, 2, progress=progress)
    assert calls == [(2, 2), (4, 3), (5, 4)]


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        measured(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]), 1)


@pytest.fixture
def network():
    """A network with statistics of its own, so that folding is no identity."""
    torch.manual_seed(0)
    made = build_model(SPEC, 7)
    for _ in range(5):
        made(torch.randn(8, 3, 16, 16) * 2 + 1)
    return made.eval()


@pytest.mark.parametrize("layout", ["own", "timm"])
@pytest.mark.parametrize("held", ["train", "deployed"])
def test_a_file_is_read_in_its_own_form_or_folded(network, held, layout, tmp_path):
    path, images = tmp_path / "weights.safetensors", torch.randn(4, 3, 16, 16)
    save_file(export_weights(network if held == "train" else reparameterize(network), layout), path)
    for form in ("file", "deployed"):
        read = read_network(SPEC, read_weights(path), form)
        assert not read.training
        assert read.deployed == (form == "deployed" or held == "deployed")
        torch.testing.assert_close(read(images), network(images), rtol=1e-4, atol=1e-5)


def test_branches_cannot_be_had_from_a_deployed_file(network, tmp_path):
    save_file(export_weights(reparameterize(network)), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="deployed form"):
        read_network(SPEC, read_weights(tmp_path / "weights.safetensors"), "train")


def test_reduced_precision_is_near_and_not_the_same(network):
    batch = [(torch.randn(64, 3, 16, 16), torch.randint(7, (64,)))]
    full = evaluate(network, task_of(7), batch, stage="val", device=CPU)
    half = evaluate(network, task_of(7), batch, stage="val", device=CPU, precision="bf16-mixed")
    assert half["val/loss"] != full["val/loss"]
    assert half["val/loss"] == pytest.approx(full["val/loss"], rel=0.05)
