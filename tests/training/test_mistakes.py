"""The confusion matrix and the worst mistakes of a test, as files of the run."""

import csv

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from sklearn.metrics import confusion_matrix

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.classification import WORST, Mistakes


@pytest.fixture
def seen():
    """Mistakes over 90 images of 5 classes in three batches, with the labels and logits."""
    torch.manual_seed(0)
    images, logits, labels = torch.randn(90, 3, 8, 8), torch.randn(90, 5), torch.randint(5, (90,))
    made = Mistakes(5)
    for start in range(0, 90, 30):
        made.update(*(values[start : start + 30] for values in (images, logits, labels)))
    return made, images, logits, labels


def test_the_matrix_is_scikit_learns(seen, tmp_path):
    made, _, logits, labels = seen
    expected = confusion_matrix(labels, logits.argmax(1))
    assert np.array_equal(made.matrix, expected)
    files = made.save(tmp_path, ("a,b", "c", "d", "e", "f"))
    assert [path.name for path in files] == ["mistakes.png", "confusion.csv", "confusion.png"]
    with files[1].open(encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert (head[1:], [row[0] for row in rows]) == (["a,b", "c", "d", "e", "f"],) * 2
    assert np.array_equal(np.array([row[1:] for row in rows], int), expected)
    assert sum(path.stat().st_size for path in files) < 250_000  # of noise; pictures take less


def test_the_worst_mistakes_come_first_and_no_right_answer_is_among_them(seen):
    made, images, logits, labels = seen
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    wrong = [index for index in range(90) if logits[index].argmax() != labels[index]]
    expected = sorted(wrong, key=lambda index: -losses[index])[:WORST]
    assert [item[0] for item in made.worst] == pytest.approx([float(losses[index]) for index in expected])
    assert all(torch.equal(item[3], images[index]) for item, index in zip(made.worst, expected, strict=True))


def test_many_classes_have_no_matrix_and_a_perfect_network_no_grid(tmp_path):
    many = Mistakes(1000)
    many.update(torch.zeros(2, 1, 4, 4), torch.eye(1000)[[3, 4]], torch.tensor([3, 5]))
    assert [path.name for path in many.save(tmp_path, ())] == ["mistakes.png"]
    with Image.open(tmp_path / "mistakes.png") as grid:
        assert grid.size == (384, 110)
    perfect = Mistakes(2)
    perfect.update(torch.zeros(2, 1, 4, 4), torch.eye(2), torch.tensor([0, 1]))
    assert [path.name for path in perfect.save(tmp_path, ())] == ["confusion.csv", "confusion.png"]


def test_a_cell_writes_them(train):
    result = train(epochs=1)
    assert {path.name for path in result.pictures} == {"mistakes.png", "confusion.csv", "confusion.png"}
    lines = next(path for path in result.pictures if path.suffix == ".csv").read_text().splitlines()[1:]
    table = np.array([line.split(",")[1:] for line in lines], int)
    assert table.sum() == result.metrics["test/images"]
    assert np.trace(table) / table.sum() == pytest.approx(result.metrics["test/top1"])


@pytest.mark.slow
def test_a_run_names_its_data_with_a_digest(record_cell, tmp_path):
    workspace = Workspace.at(tmp_path / "runs")
    workspace.runs.mkdir()
    runs = [
        record_cell(workspace, CellSpec(ModelSpec.preset("tiny", in_channels=1, k=1), DataSpec(image_size=size)))
        for size in (16, 24)
    ]
    client = MlflowClient(workspace.tracking)
    datasets = [client.get_run(run).inputs.dataset_inputs[0].dataset for run in runs]
    assert [item.name for item in datasets] == ["digits", "digits"]
    assert datasets[0].digest != datasets[1].digest
