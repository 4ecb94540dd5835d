"""Cells that start from weights of a file: head, frozen stages, learning rates, resume, distillation."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.execution import Execution
from mobileone_core.training.fine_tuning import load_initial
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.optimizer import build_optimizer, schedule
from mobileone_core.training.recipe import Recipe, Teacher, weights_digest

DIGEST = "0123456789abcdef"


@pytest.fixture
def source(cell, tmp_path):
    """A file of a network with 7 classes and statistics of its own, its digest and its state."""
    torch.manual_seed(5)
    network = build_model(cell.model, 7)
    for _ in range(3):
        network(torch.randn(8, 1, 16, 16) * 2 + 1)
    path = tmp_path / "source.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return path, weights_digest(path), network.state_dict()


@pytest.mark.parametrize("blocks", ["branches", "folded"])
def test_frozen_stages_stay_bit_by_bit_and_the_rest_trains(train, source, blocks):
    path, digest, state = source
    execution = Execution("cpu", blocks=blocks)
    result = train(start=path, execution=execution, init=digest, frozen_stages=1, head_lr_factor=10.0)
    for kept in (load_file(result.weights), load_file(result.raw_weights)):
        frozen = [name for name in state if name.startswith(("stem.", "stages.0."))]
        assert all(torch.equal(kept[name], state[name]) for name in frozen)
        trained = [name for name in state if name.startswith("stages.1.")]
        assert not any(torch.equal(kept[name], state[name]) for name in trained)
        assert kept["head.fc.weight"].shape == (10, 12)


def test_an_interrupted_cell_resumes_without_the_file(train, memory, source):
    path, digest, _ = source
    options = {"init": digest, "frozen_stages": 1, "head_lr_factor": 2.0}
    whole = train("whole", start=path, **options)
    with pytest.raises(TrainingStopped):
        train("parts", memory(after_batch=5), start=path, **options)
    path.unlink()
    parts = train("parts", **options)
    assert load_file(parts.weights).keys() == load_file(whole.weights).keys()
    assert all(torch.equal(value, load_file(parts.weights)[name]) for name, value in load_file(whole.weights).items())


def test_the_head_is_kept_for_as_many_classes_and_new_for_others(cell, source):
    path, digest, state = source
    recipe = Recipe(init=digest)
    network = build_model(cell.model, 7)
    assert load_initial(network, recipe, path).head == "loaded"
    assert torch.equal(network.head.fc.weight, state["head.fc.weight"])
    network = build_model(cell.model, 7)
    before = network.head.fc.weight.clone()
    assert load_initial(network, Recipe(init=digest, head="new"), path).head == "new"  # other classes, as many
    assert torch.equal(network.head.fc.weight, before)
    network = build_model(cell.model, 4)
    before = network.head.fc.weight.clone()
    line = f"weights state_dict of {path}; the head is new: its classifier has 7 classes"
    assert str(load_initial(network, recipe, path)) == line
    assert torch.equal(network.head.fc.weight, before)
    assert torch.equal(network.stages[1][0].conv_kxk[1].conv.weight, state["stages.1.0.conv_kxk.1.conv.weight"])
    assert load_initial(network, Recipe(), None) is None


def test_files_that_cannot_be_used_are_named(cell, source, tmp_path):
    path, digest, _ = source
    network = build_model(cell.model, 7)
    with pytest.raises(InputError, match=rf"init: '{DIGEST}' is not allowed; .* is another file: its SHA-256 begins"):
        load_initial(network, Recipe(init=DIGEST), path)
    for missing in (None, tmp_path / "none"):
        with pytest.raises(InputError, match="on this machine no file with these weights is named: give --init FILE"):
            load_initial(network, Recipe(init=digest), missing)
    with pytest.raises(InputError, match=r"init: .*does not fit the model"):
        load_initial(build_model(replace(cell.model, k=3), 7), Recipe(init=digest), path)
    folded = tmp_path / "folded.pth"
    torch.save(reparameterize(network.eval()).state_dict(), folded)
    with pytest.raises(InputError, match=r"init: .*it contains the deployed form, without branches"):
        load_initial(network, Recipe(init=weights_digest(folded)), folded)
    with pytest.raises(InputError, match=r"init: .*takes no initial weights"):
        load_initial(torch.nn.Linear(1, 1), Recipe(init=digest), path)


def test_the_heads_learning_rate_is_a_multiple(cell):
    network = build_model(cell.model, 10)
    recipe = Recipe(lr=0.5, head_lr_factor=10.0)
    optimizer = build_optimizer(network, recipe)
    schedule(optimizer, recipe, 0.5)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert {rates[id(value)] for value in network.head.parameters()} == {2.5}
    assert {rates[id(value)] for name, value in network.named_parameters() if "head." not in name} == {0.25}
    assert not any("factor" in group for group in build_optimizer(network, Recipe()).param_groups)


def test_bad_fields_and_keys():
    with pytest.raises(InputError, match=r"frozen_stages: 1 is not allowed; 0 without init"):
        Recipe(frozen_stages=1)
    with pytest.raises(InputError, match=r"init: 'weights.pth' is not allowed; the first 16 hex digits"):
        Recipe(init="weights.pth")
    with pytest.raises(InputError, match="head: 'new' is not allowed; auto without init"):
        Recipe(head="new")
    assert CellSpec(recipe=Recipe(init=DIGEST, head="new")).key != CellSpec(recipe=Recipe(init=DIGEST)).key
    with pytest.raises(InputError, match="head_lr_factor: 0"):
        Recipe(head_lr_factor=0)
    with pytest.raises(InputError, match=r"frozen_stages: 5 is not allowed; at most the network's stages, 4"):
        CellSpec(recipe=Recipe(init=DIGEST, frozen_stages=5))
    tuned = CellSpec(recipe=Recipe(init=DIGEST, frozen_stages=2, head_lr_factor=5, teachers=(Teacher("small"),)))
    assert CellSpec.from_json(tuned.to_json()) == tuned
    assert len({tuned.key, CellSpec().key, CellSpec(recipe=Recipe(init=DIGEST)).key}) == 3
    assert tuned.changed({"recipe.init": ""}).recipe.frozen_stages == 0
    recipe = teacher_cell(tuned, Teacher("small")).recipe
    assert (recipe.init, recipe.frozen_stages, recipe.head_lr_factor) == ("", 0, 1.0)
