"""A study from Python, and from a notebook's kernel."""

import io
import runpy
import sys
import time
from pathlib import Path

import pytest

import mobileone_core
from mobileone_core.cli import console, main
from mobileone_core.cli.commands import run as module
from mobileone_core.errors import InputError
from mobileone_core.reporting import results as results_module
from mobileone_core.study.run import planner


def declared(name):
    return runpy.run_path(str(Path(__file__).parents[2] / "studies" / f"{name}.py"))["STUDY"]


STUDY = declared("branch_count")


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands that are executed; each ends with a report of one cell."""
    executed = []
    monkeypatch.setattr(results_module, "results", lambda *args, **options: (args, options))
    monkeypatch.setattr(module, "execute", lambda *args: executed.append(args) or (0, tmp_path / "README.md"))
    return executed


def test_options_are_keyword_arguments_and_the_cells_come_back(commands, tmp_path):
    cells = mobileone_core.run(
        STUDY, k=(1, 4), seeds=3, nesterov=False, plan=True, runs=tmp_path, se=(0, 0, 1, 1), lr=0.5
    )
    setting = {"setting": tmp_path.name, "runs": tmp_path, "reports": tmp_path.parent}
    assert cells == (("branch_count",), setting)
    ((command, declared, start),) = commands
    assert time.time() - 60 < start <= time.time()
    plan = command.request.plan
    assert declared is STUDY
    assert (plan.study.factors[0].levels, plan.study.seeds) == ((1, 4), 3)
    assert (plan.base.recipe.nesterov, plan.base.recipe.lr, plan.base.model.se) == (False, 0.5, (0, 0, 1, 1))
    assert (command.running.plan, command.running.runs) == (True, tmp_path)


def test_options_left_as_they_are_may_be_named(commands):
    mobileone_core.run(STUDY, plan=False, join=False, channels_last=False, data_root=None)
    mobileone_core.run(STUDY, again=False, compile=False, sync_batchnorm=False, frozen_norm=False, slurm_cancel=False)
    assert all(command.request.plan.default for command, *_ in commands)


def test_what_cannot_be_is_an_error_and_no_exit(commands):
    with pytest.raises(InputError, match=r"^Unrecognized options: --seed, 3; perhaps you meant .*--seeds"):
        mobileone_core.run(STUDY, seed=3)
    with pytest.raises(InputError, match="variant"):
        mobileone_core.run(STUDY, variant="s9")


def test_an_interrupt_is_one(monkeypatch):
    monkeypatch.setattr(module, "execute", lambda *_: (module.INTERRUPTED, None))
    with pytest.raises(KeyboardInterrupt):
        mobileone_core.run(STUDY)


@pytest.mark.parametrize("launcher", ["/lib/ipykernel_launcher.py", "/lib/colab_kernel_launcher.py"])
def test_a_kernel_s_arguments_are_not_ours(commands, monkeypatch, launcher):
    monkeypatch.setattr(sys, "argv", [launcher, "-f", "/run/kernel-1.json"])
    with pytest.raises(SystemExit) as ended:
        main(STUDY)
    assert ended.value.code == 0
    assert commands[0][0].request.plan.default


@pytest.mark.parametrize("command", [lambda: console(["--version"]), lambda: main(STUDY, ["--version"])])
def test_the_version(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mobileone 0.")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (lambda: main(STUDY, ["--k", "x"]), "Error parsing --k: Could not find valid parse for arguments: ['x']"),
        (lambda: main(STUDY, ["--precision", "8"]), "invalid choice '8' for argument '--precision'. Expected one of"),
        (lambda: console(["stat"]), "Unrecognized options: stat"),
        (lambda: console(["latency", "run"]), "Missing from mobileone latency run: "),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_mistake_in_the_arguments_is_one_line(command, line, encoding, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    (shown,) = capfd.readouterr().err.splitlines()
    assert shown.startswith(f"error: {line}")
    assert shown.endswith("; see --help")


@pytest.mark.parametrize(
    ("option", "expected"), [("--device=cuda", ["NVIDIA H100"]), ("--device=cpu", []), ("--blocks=branches", [])]
)
def test_a_plan_says_that_folding_was_not_timed(monkeypatch, tmp_path, capsys, option, expected):
    names = lambda device: [] if device == "cpu" else ["NVIDIA H100"] * 2 + ["NVIDIA A100"]  # noqa: E731
    for place in ("cli.options.study", "cli.commands.run"):
        monkeypatch.setattr(f"mobileone_core.{place}.gpu_names", names)
    monkeypatch.setattr(module, "timings", lambda name: () if "H100" in name else (1,))
    with pytest.raises(SystemExit):
        main(STUDY, ["--plan", "--runs", str(tmp_path), option])
    printed = capsys.readouterr().out.splitlines()
    assert [text.partition(":")[0] for text in printed if "was not timed" in text] == expected


@pytest.mark.slow
@pytest.mark.parametrize(("option", "is_said"), [("--blocks=auto", True), ("--blocks=branches", False)])
def test_a_plan_says_that_dbb_is_not_folded(tmp_path, capsys, option, is_said):
    with pytest.raises(SystemExit):
        main(declared("se_usage"), ["--plan", "--runs", str(tmp_path), "--block-method=dbb", option])
    assert ("dbb: its blocks run all branches" in capsys.readouterr().out) == is_said


def test_dbb_and_batch_norm_over_processes_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="sync_batchnorm: True is not allowed; off with block_method dbb"):
        mobileone_core.run(
            declared("se_usage"), block_method="dbb", processes=2, sync_batchnorm=True, plan=True, runs=tmp_path
        )


@pytest.mark.parametrize("is_usable", [False, True])
def test_again_gives_up_what_is_recorded_only_once_all_else_is_checked(monkeypatch, tmp_path, is_usable):
    class Reached(Exception):  # noqa: N818
        pass

    def reach(*_):
        raise Reached

    monkeypatch.setattr(planner, "measure_again", reach)
    reports = tmp_path / "reports"
    if not is_usable:
        reports.write_text("no directory")
    with pytest.raises(Reached if is_usable else InputError):
        mobileone_core.run(declared("reparam_effect"), again=True, runs=tmp_path / "runs", reports=reports)


def test_jobs_do_not_measure_again_each(monkeypatch, tmp_path):
    script = tmp_path / "study.py"
    script.touch()
    monkeypatch.setattr(sys, "argv", [str(script), "--again", "--seeds", "3", "--launcher", "slurm"])
    assert module._command_of_jobs() == [
        str(script), "--seeds", "3", "--launcher", "slurm", "--launcher", "local",
    ]  # fmt: skip
