"""A second task trains, resumes and evaluates through train_cell; classification, the default, moves no key."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_task
from safetensors.torch import load_file

from mobileone_core.data.loaders import LoaderOptions
from mobileone_core.errors import InputError
from mobileone_core.reporting.metric import metric_of
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import Teacher
from mobileone_core.training.tasks import TASKS
from mobileone_core.training.tasks.task import build_task

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture
def toy(cell, monkeypatch):
    """A cell of the toy task, which is registered while the test runs."""
    monkeypatch.setitem(TASKS, "toy", toy_task.SPEC)
    return replace(cell, task="toy")


def test_another_task_trains_through_train_cell(train, memory, toy):
    observer = memory()
    result = train(observer=observer, spec=toy, epochs=6)
    losses = [record.metrics["train/loss"] for record in observer.records]
    assert losses[-1] < losses[0]
    measured = {"loss", "closeness"}
    assert {name for name in observer.records[0].metrics if name.startswith("val/")} == {f"val/{n}" for n in measured}
    forms = {"form_difference", "form_difference_relative", "images"}
    assert {name for name in result.metrics if name.startswith("test/")} == {f"test/{n}" for n in measured | forms}
    assert 0 < result.metrics["test/form_difference_relative"] < 1e-4
    assert TASKS["toy"].metric in result.metrics


def test_its_tested_metrics_are_those_of_the_saved_weights(train, toy):
    result, task = train(spec=toy), build_task(toy)
    network = task.build_network()
    network.load_state_dict(load_file(result.weights))
    with task.open_data(None, LoaderOptions(256, "none")) as loaders:
        again = evaluate(network, task, loaders.test, stage="test", device=torch.device("cpu"))
    for name in ("test/closeness", "test/loss", "test/images"):
        assert again[name] == pytest.approx(result.metrics[name], rel=1e-5), name


def test_it_resumes_bit_by_bit(train, memory, toy):
    whole = load_file(train("whole", spec=toy, epochs=3).weights)
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=9), spec=toy, epochs=3)
    second = memory()
    resumed = load_file(train(observer=second, spec=toy, epochs=3).weights)
    assert [record.epoch for record in second.resumed_with] == [1, 2]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_what_a_task_cannot_do_is_refused(toy):
    with pytest.raises(InputError, match="data: 'cifar10' is not allowed; one of digits"):
        replace(toy, data=replace(toy.data, name="cifar10"))
    with pytest.raises(InputError, match="toy has no distillation"):
        replace(toy, recipe=replace(toy.recipe, teachers=(Teacher("s0"),)))
    with pytest.raises(
        InputError, match="task: 'depth' is not allowed; one of classification, detection, segmentation, toy"
    ):
        replace(toy, task="depth")


def test_a_cell_names_its_task_only_if_it_is_not_the_default(toy, cell):
    assert '"task":"toy"' in toy.to_json()
    assert CellSpec.from_json(toy.to_json()) == toy
    assert toy.key != cell.key
    assert "task" not in cell.to_json()


@pytest.mark.parametrize(
    ("study", "varied"),
    [
        ("branch_count", {"model.k": "factor.k"}),
        ("activation", {"model.activation": "factor.activation"}),
        ("width_and_depth", {"model.width": "factor.width", "model.depth": "factor.depth"}),
    ],
)
def test_no_key_of_a_committed_report_moves(study, varied):
    base = CellSpec.from_json(json.dumps(json.loads((REPORTS / study / "plan.json").read_text())["base"]))
    with (REPORTS / study / "cells.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["key"] and row["test/top1"]]
    assert len(rows) >= 30
    for row in rows:
        changes = {name: number(row[column]) for name, column in varied.items()}
        assert replace(base.changed(changes), seed=int(row["seed"])).key == row["key"]


def number(text):
    """A level as a cell takes it."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_the_description_of_tasks_is_light():
    code = "import sys, mobileone_core.training.tasks, mobileone_core.training.cell; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_report_shows_a_tasks_metric(toy):
    metric = metric_of("test/closeness")
    assert (metric.label, metric.unit, metric.higher_is_better) == ("test closeness", "%", True)
