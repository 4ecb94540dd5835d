"""`mobileone clean`: frees what no cell needs, and nothing of a cell that runs or is about to."""

import os
import time

import pytest
from optuna.trial import TrialState
from study_fakes import FAST, script, small_plan
from study_proof import assert_exactly_once, give_databases, plan_and_work, start_child, status_of

from mobileone_core.cli.console import parse, run
from mobileone_core.errors import InputError
from mobileone_core.study import leftovers as module
from mobileone_core.study.database import at_work
from mobileone_core.study.leftovers import ABANDONED, FINISHED, HALF_WRITTEN, leftovers, remove
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.run.planner import plan_cells
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

HALF = ".last.ckpt.0123456789abcdef"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of compiled code for the test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mobileone_ablations"


def write(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def clean(workspace, *options):
    return run(parse(["clean", "--runs", str(workspace.runs), *options]))


def until(condition, patience=60.0):
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return value


@pytest.mark.slow
def test_a_running_worker_is_not_disturbed(databases, workspace, tmp_path, capsys):
    """Three cells: one is complete, one runs, one waits; each has a checkpoint and a half-written one."""
    plan = small_plan(levels=(1, 2, 3), seeds=1, epochs=6)
    give_databases(databases, workspace)
    child = start_child(plan_and_work, plan, workspace, script(tmp_path / "data", seconds=0.5))

    def one_of_each():
        states = {item.state: item for item in cell_states(workspace, plan)}
        return states if len(states) == 3 and states["running"].epoch else None

    states = until(one_of_each)
    assert set(states) == {"complete", "running", "waiting"}
    folder = {state: workspace.checkpoints(plan.queue, item.key) for state, item in states.items()}
    half = {state: write(path / HALF) for state, path in folder.items()}
    kept = [write(folder["waiting"] / "last.ckpt"), write(workspace.checkpoints(plan.queue, "else") / "last.ckpt")]
    write(folder["complete"] / "last.ckpt")
    kept[0].write_text("[]")
    assert clean(workspace, "--dry-run") == 0
    assert all(path.exists() for path in half.values())
    assert clean(workspace, "--yes") == 0
    assert (half["running"].exists(), half["waiting"].exists()) == (True, False)
    assert (folder["running"] / "last.ckpt").exists()
    assert all(path.exists() for path in kept)
    assert not folder["complete"].exists()
    text = capsys.readouterr().out
    assert text.count(FINISHED) == text.count(HALF_WRITTEN) == text.count(ABANDONED) == 2
    kept[0].unlink()
    assert status_of(child) == 0
    assert_exactly_once(plan, workspace)
    assert all(item.attempt == 1 for item in cell_states(workspace, plan))


@pytest.fixture
def planned(databases, workspace):
    """A plan of one cell that waits, its queue, and its checkpoint's directory."""
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    plan_cells(plan, workspace, FAST.timing)
    queue = Queue(workspace.queue, plan.queue, FAST.timing, lambda _: None)
    return plan, queue, workspace.checkpoints(plan.queue, plan.cells[0].key)


def claim(queue):
    (trial,) = queue.study.get_trials()
    queue._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)


def test_a_cell_claimed_after_the_look_at_its_files_is_left_alone(planned, workspace, monkeypatch):
    _, queue, folder = planned
    write(folder / HALF)
    assert [item.path.name for item in leftovers(workspace)] == [HALF]
    look = module._files

    def listed(directory):
        files = look(directory)
        if directory == folder:
            claim(queue)
        return files

    monkeypatch.setattr(module, "_files", listed)
    assert leftovers(workspace) == []


def test_what_a_worker_writes_after_the_look_stays(planned, workspace, monkeypatch):
    """A complete cell whose result was lost may be run again at any time."""
    _, queue, folder = planned
    queue.claim(lambda _: 0.5)
    write(folder / "last.ckpt")
    chosen = leftovers(workspace)
    assert [(item.path, item.reason) for item in chosen] == [(folder, FINISHED)]
    look = module.study_states

    def late(*arguments):
        states = look(*arguments)
        write(folder / "weights.safetensors")
        return states

    monkeypatch.setattr(module, "study_states", late)
    assert remove(workspace, chosen) == []
    assert [path.name for path in folder.iterdir()] == ["weights.safetensors"]


def test_what_another_queue_wrote_after_a_cell_ended_is_not_of_a_finished_cell(planned, workspace, capsys):
    """The same cell may be on its way in a queue with another address, whose checkpoints lie in the same directory."""
    _, queue, folder = planned
    queue.claim(lambda _: 0.5)
    path = write(folder / "last.ckpt")
    later = time.time() + 3600
    os.utime(path, (later, later))
    assert [(item.path, item.reason) for item in leftovers(workspace)] == [(folder, ABANDONED)]
    assert clean(workspace, "--yes") == 0
    assert path.exists()
    assert "another (--queue) may have them" in capsys.readouterr().out


def test_only_what_was_shown_is_removed(planned, workspace):
    _, queue, folder = planned
    other = write(folder / HALF)
    queue.claim(lambda _: 0.5)
    assert remove(workspace, []) == []
    assert other.exists()


def test_a_queue_on_which_a_command_works_is_left_alone(workspace, capsys):
    """Its cells may be those of another database, such as a server's, for which the same command works."""
    files = [write(workspace.checkpoints(queue, "cell") / "last.ckpt") for queue in ("one", "two")]
    with at_work(workspace.runs, "one"):
        assert clean(workspace, "--abandoned", "--yes") == 0
    assert [path.exists() for path in files] == [True, False]
    assert "one: a command works on it" in capsys.readouterr().out


def test_cells_that_the_queue_does_not_have_stay_unless_they_are_named(workspace, capsys):
    path = write(workspace.checkpoints("one", "cell") / "last.ckpt", 2_500_000)
    assert clean(workspace, "--yes") == 0
    assert "--abandoned" in capsys.readouterr().out
    assert path.exists()
    assert clean(workspace, "--abandoned", "--dry-run") == 0
    assert "1 files of 2.5 MB" in capsys.readouterr().out
    assert path.exists()
    assert clean(workspace, "--abandoned", "--yes") == 0
    assert not path.parent.exists()
    assert clean(workspace) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_directory_that_machines_share_keeps_cells_of_other_queues(workspace, tmp_path):
    shared = Workspace.at(workspace.runs, checkpoints=tmp_path / "shared")
    path = write(shared.checkpoints("one", "cell") / "last.ckpt")
    options = ("--checkpoints", str(tmp_path / "shared"), "--yes")
    with pytest.raises(InputError, match="abandoned: True is not allowed; only in runs/checkpoints"):
        clean(workspace, "--abandoned", *options)
    assert clean(workspace, *options) == 0
    assert path.exists()


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("no", 1), ("", 1), (None, 2)])
def test_it_asks_first(workspace, monkeypatch, answer, status):
    path = write(workspace.checkpoints("one", "cell") / "last.ckpt")

    def ask(_):
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", ask)
    if answer is None:
        with pytest.raises(InputError, match="--yes"):
            clean(workspace, "--abandoned")
    else:
        assert clean(workspace, "--abandoned") == status
    assert path.exists() == bool(status)


def test_links_are_not_followed(workspace, tmp_path):
    outside = write(tmp_path / "outside" / "file")
    folder = workspace.checkpoints("one", "cell")
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(outside.parent)
    (folder.parent / "other").symlink_to(outside.parent)
    assert clean(workspace, "--abandoned", "--yes") == 0
    assert outside.exists()


def test_old_compiled_code_and_half_written_reports_are_removed(workspace, cache):
    old = [write(cache / "folded-1.so"), write(cache / ".folded-2.so.0123456789abcdef")]
    old.append(write(workspace.runs / "reports" / "study" / ".README.md.0123456789abcdef"))
    young = [write(cache / "folded-3.so"), write(cache / ".folded-4.so.0123456789abcdef")]
    young.append(write(workspace.runs / "reports" / "study" / "README.md"))
    for path in (*old, young[-1]):
        os.utime(path, (1, 1))
    assert clean(workspace, "--yes") == 0
    assert [path.exists() for path in (*old, *young)] == [False] * 3 + [True] * 3
