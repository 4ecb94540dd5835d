"""Two processes that share every batch and its statistics train as one does with the whole of it."""

import pytest
import rank_shares
import torch
from rank_shares import SETTINGS, THREE
from safetensors.torch import load_file

from mobileone_core.errors import InputError
from mobileone_core.study.environment import environment_tags
from mobileone_core.training.distributed import other_ranks
from mobileone_core.training.execution import Execution

FOLDED = Execution("cpu", blocks="folded")
SHARED = Execution("cpu", blocks="folded", processes=2, sync_batchnorm=True)
CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


def run(ranks, directory, settings):
    """The result of each rank in every setting."""
    arguments = (directory, settings)
    with other_ranks(ranks, CPU, directory, rank_shares.train_all, arguments):
        rank_shares.train_all(0, CPU, *arguments)
    return [torch.load(directory / f"{rank}.pt") for rank in range(ranks)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run(2, tmp_path_factory.mktemp("ranks"), SETTINGS)


def difference(state, setting):
    """The largest difference of any tensor from that of one process by branches, relative to its largest entry."""
    expected = rank_shares.trained(setting._replace(execution="branches", sizes=None, sync_batchnorm=False))
    pairs = [(state[key].double(), value.double()) for key, value in expected.items()]
    return max(((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3)).item() for mine, theirs in pairs)


@pytest.mark.parametrize(("name", "bound"), [("folded", 1e-9), ("auto", 1e-9), ("uneven", 1e-9), ("float32", 1e-4)])
def test_weights_and_running_statistics_are_those_of_one_process(results, name, bound):
    found = difference(results[0][name], SETTINGS[name])
    assert found < bound, found


def test_each_share_by_itself_comes_to_something_else(results):
    assert difference(results[0]["apart"], SETTINGS["apart"]) > 1e-2


def test_the_ranks_stay_equal_bit_by_bit(results):
    for name in ("folded", "auto", "uneven", "float32"):
        assert all(torch.equal(value, results[1][name][key]) for key, value in results[0][name].items())


def test_three_ranks_stay_equal_bit_by_bit(tmp_path):
    """Equality holds also where the order of additions could matter."""
    states = [results["three"] for results in run(3, tmp_path, THREE)]
    assert difference(states[0], THREE["three"]) < 1e-9
    assert all(torch.equal(value, other[key]) for other in states[1:] for key, value in states[0].items())


def test_branches_and_statistics_of_all_ranks_are_refused_together(results):
    assert results[0]["branches"] == results[1]["branches"]
    assert "sync_batchnorm: True is not allowed; it needs execution folded or auto" in results[0]["branches"]


def test_evaluation_waits_for_nobody(results):
    network = rank_shares.network_of(SETTINGS["folded"]).eval()
    assert torch.equal(results[0]["evaluation"], network(rank_shares.images(SETTINGS["folded"])))


def test_a_cell_of_two_processes_is_that_of_one(train):
    """Equal within float32's rounding, which some steps of training enlarge."""
    shared, alone = train("shared", execution=SHARED), train("alone", execution=FOLDED)
    expected = load_file(alone.weights)
    for name, value in load_file(shared.weights).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    for name in ("train/loss", "val/loss", "test/loss"):
        assert shared.metrics[name] == pytest.approx(alone.metrics[name], abs=1e-4)


def test_how_it_ran_is_recorded_and_what_cannot_run_is_refused():
    assert environment_tags(SHARED)["execution"] == "folded blocks, 2 processes, sync_batchnorm"
    assert environment_tags(Execution("cpu", sync_batchnorm=True))["execution"] == "auto blocks"
    with pytest.raises(InputError, match="sync_batchnorm: True is not allowed; with several processes it needs blocks"):
        Execution("cpu", processes=2, blocks="branches", sync_batchnorm=True)
