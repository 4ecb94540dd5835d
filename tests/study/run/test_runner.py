"""A run in its parent: nothing to do costs nothing, dying workers are replaced up to a bound, others can join."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from study_fakes import FAST, Lines, kept_times, script, small_plan
from study_proof import assert_exactly_once, give_databases, in_child, plan_and_work
from study_proof import run_plan as run

from mobileone_core.errors import InputError
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.planner import plan_cells
from mobileone_core.study.run.runner import SignalGuard, StudyRun, join, run_study
from mobileone_core.study.run.worker_pool import MAX_REPLACEMENTS
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Job, Setup
from mobileone_core.training.execution import Execution

DRIVE = Path(__file__).parents[1] / "drive.py"


def test_a_run_completes_then_has_nothing_to_do(databases, workspace):
    plan = small_plan(levels=(1, 2), seeds=2, epochs=2)
    give_databases(databases, workspace)
    outcome, display = run(plan, workspace)
    assert outcome.is_complete
    assert outcome.notes == ()
    assert display.workers == 2
    assert_exactly_once(plan, workspace)
    before = {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("*")}
    again, silent = run(plan, workspace)
    assert again.states == outcome.states
    assert silent.seen == silent.lines == []
    assert {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("*")} == before


def test_nothing_to_do_imports_nothing_heavy(databases, workspace, tmp_path):
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    assert in_child(plan_and_work, plan, workspace) == 0
    options = {"plan": {"levels": [1], "seeds": 1, "epochs": 1}, "runs": str(workspace.runs), "workers": 2}
    (tmp_path / "settings.json").write_text(json.dumps({**options, "train": "no.such:function"}))
    code = (
        f"import sys; sys.path.insert(0, {str(DRIVE.parent)!r}); sys.argv = ['', {str(tmp_path / 'settings.json')!r}]; "
        "import drive; drive.main(); print(sorted({'torch', 'optuna', 'mlflow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_interrupted_in_its_imports_imports_them_no_more(databases, workspace, monkeypatch):
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    plan_cells(plan, workspace, FAST.timing)

    class Interrupting:
        tries = 0

        def find_spec(self, name, *_):
            if name == planner:
                Interrupting.tries += 1
                raise KeyboardInterrupt

    planner = "mobileone_core.study.run.planner"
    monkeypatch.delitem(sys.modules, planner)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    outcome, display = run(plan, workspace)
    assert outcome.interrupted
    assert display.lines == ["stopping; running cells resume from their last epoch next time"]
    assert Interrupting.tries == 1


@pytest.mark.slow
def test_a_failed_cell_is_listed_and_tried_again(databases, workspace, tmp_path):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=2)
    give_databases(databases, workspace)
    bad = plan.cells[0].key
    outcome, _ = run(plan, workspace, script(tmp_path / "data", raising=[bad]))
    assert [(item.key, item.error) for item in outcome.failures] == [(bad, "ValueError: the loss went away for ever")]
    assert not outcome.is_complete
    outcome, display = run(plan, workspace)
    assert outcome.is_complete
    assert display.workers == 1
    assert outcome.states[0].attempt == 2


@pytest.mark.slow
def test_a_cell_that_kills_its_workers_ends_the_run_not_the_study(databases, workspace, tmp_path):
    plan = small_plan(levels=(1, 2, 3), seeds=1, epochs=2)
    give_databases(databases, workspace)
    deadly = plan.cells[2].key
    outcome, _ = run(plan, workspace, script(tmp_path / "data", deadly=[deadly]), workers=1)
    assert [item.state for item in outcome.states] == ["complete", "complete", "waiting"]
    assert sum("died (SIGKILL)" in note for note in outcome.notes) == 1 + MAX_REPLACEMENTS
    outcome, _ = run(plan, workspace)
    assert outcome.is_complete
    assert_exactly_once(plan, workspace)


def test_a_worker_that_cannot_start_says_why(databases, workspace):
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    outcome, _ = run(plan, workspace, engine=replace(FAST, train="study_fakes:no_such_function"), workers=1)
    assert "no_such_function" in outcome.notes[0]
    assert [item.state for item in outcome.states].count("waiting") == 1


@pytest.mark.slow
def test_joining_takes_cells_and_plans_nothing(databases, workspace):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=2)
    setup = Setup(workspace, execution=Execution("cpu"), engine=FAST)
    with pytest.raises(InputError, match=r"'branch_count-.*' is not allowed; nothing of it is in"):
        join(plan, setup, Lines())
    assert not workspace.runs.exists()
    give_databases(databases, workspace)
    assert in_child(plan_cells, plan, workspace, FAST.timing) == 0
    assert join(plan, setup, Lines()).is_complete
    assert_exactly_once(plan, workspace)


@pytest.mark.slow
def test_two_commands_at_once_share_the_cells_and_neither_measures_beside_the_other(databases, workspace, tmp_path):
    options = {"levels": [1, 2], "seeds": 2, "epochs": 2, "teachers": ["small"], "compares": "forms"}
    plan = small_plan(**options)
    give_databases(databases, workspace)
    settings = {"plan": options, "runs": str(workspace.runs), "workers": 1, "train": "study_fakes:train"}
    settings |= {"data_root": str(script(tmp_path / "data", seconds=0.1)), "measure": "study_fakes:measure_slowly"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, str(DRIVE), str(tmp_path / "settings.json")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0, out
        assert json.loads(out.splitlines()[-1])["states"] == ["complete"] * 7
    assert_exactly_once(plan, workspace)
    times = kept_times(tmp_path / "data")
    assert sorted(item["key"] for item in times) == sorted(item.key for item in (*plan.teachers, *plan.cells))
    condition = f"attributes.status = 'FINISHED' AND tags.cell = '{plan.comparison.key}'"
    begins = {run.data.tags["begin"] for run in Record(workspace.tracking).runs(plan.study.name, condition)}
    assert len(begins) == 1  # measured once
    assert max(item["end"] for item in times) <= float(begins.pop())


@pytest.mark.slow
def test_a_command_trains_its_own_cells_alone(databases, workspace):
    """Cells of another plan wait on, be it of the same queue or of another."""
    give_databases(databases, workspace)
    own = small_plan(levels=(1, 2), seeds=1, epochs=2)
    more_seeds, longer = small_plan(levels=(1, 2), seeds=3, epochs=2), small_plan(levels=(1, 2), seeds=1, epochs=3)
    assert own.queue == more_seeds.queue != longer.queue
    for other in (more_seeds, longer):
        assert in_child(plan_cells, other, workspace, FAST.timing) == 0
    outcome, _ = run(own, workspace)
    assert outcome.is_complete
    assert [item.state for item in cell_states(workspace, more_seeds)] == ["complete"] * 2 + ["waiting"] * 4
    assert [item.state for item in cell_states(workspace, longer)] == ["waiting"] * 2


@pytest.mark.slow
def test_studies_that_share_a_cell_do_not_share_its_checkpoint(databases, workspace):
    give_databases(databases, workspace)
    one, other = (small_plan(levels=(1,), seeds=1, epochs=2, name=name) for name in ("one", "other"))
    assert one.cells[0].key == other.cells[0].key
    half_done = workspace.checkpoints(other.queue, other.cells[0].key) / "last.ckpt"
    half_done.parent.mkdir(parents=True)
    half_done.write_text(json.dumps([{"epoch": 1, "step": 10, "time_ms": 1, "metrics": {"val/top1": 0.5}}]))
    assert run(one, workspace)[0].is_complete
    assert half_done.exists()
    assert run(other, workspace)[0].is_complete
    assert not half_done.exists()


@pytest.mark.slow
def test_a_device_that_is_not_there_fails_no_cell(databases, workspace):
    """Said once, and nothing waits for it."""
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    with pytest.raises(InputError, match="device: 'cuda:99' is not allowed"):
        run_study(plan, Setup(workspace, execution=Execution("cuda:99")), Lines())
    assert [item.state for item in cell_states(workspace, plan)] == ["missing"]


def test_an_interrupt_that_python_dropped_is_raised_later(monkeypatch):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: dropped.append(event.exc_type))

    class Falling:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two instructions of this method
                pass

    interrupt, before = SignalGuard(), signal.getsignal(signal.SIGINT)
    with interrupt.installed():
        interrupt.check()
        Falling()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert dropped == []  # Python would have shown a traceback
    assert signal.getsignal(signal.SIGINT) is before


def test_a_refused_device_leaves_nothing_waiting(workspace):
    class Refusing:
        def check(self, *_):
            raise InputError("device: 'cuda' is not allowed; this machine has 0 CUDA devices")

    plan = small_plan(levels=(1, 2), seeds=1, epochs=1)
    refused = StudyRun(Job(Setup(workspace), plan.queue, frozenset(cell.key for cell in plan.cells)), plan, Lines())
    with pytest.raises(InputError, match="device"):
        refused._check(Refusing())
    assert not workspace.runs.exists()
