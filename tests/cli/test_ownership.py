"""Nothing of a study is overwritten by another one of the same name, and nothing of the user's by a report."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.cli import main, ownership
from mobileone_core.cli.commands import report, run
from mobileone_core.cli.commands.report import report_directory
from mobileone_core.cli.options.study import parse
from mobileone_core.cli.options.workspace import reports_directory
from mobileone_core.errors import InputError
from mobileone_core.reporting.report import require_report_directory, write_report
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.workspace import Workspace, runs_directory

SHIPPED = runpy.run_path(str(Path(__file__).parents[2] / "studies" / "branch_count.py"))["STUDY"]
COPY = replace(SHIPPED, factors=(Factor("ema", "recipe.ema_decay", (0.0, 0.9), 0.0),))
RUNS = Workspace.at(runs_directory())


def planned(study):
    return parse(study, ()).request.plan


def refusal(capsys, study, *options):
    with pytest.raises(SystemExit) as ended:
        main(study, options)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("options", [("--plan",), (), ("--reports", "reports"), ("--seeds", "2"), ("--join",)])
def test_a_copy_that_left_the_name_is_refused_with_the_owner(capsys, tmp_path, options):
    line = refusal(capsys, COPY, "--runs", str(tmp_path / "runs"), *options)
    assert line.startswith("error: name: 'branch_count' belongs to studies/branch_count.py; ")
    assert not list(tmp_path.iterdir())


def test_the_shipped_study_and_an_equal_copy_own_the_name(capsys, tmp_path):
    for study in (SHIPPED, replace(SHIPPED)):
        with pytest.raises(SystemExit) as ended:
            main(study, ["--plan", "--runs", str(tmp_path)])
        assert ended.value.code == 0


def test_of_two_files_with_a_name_the_first_owns_it(capsys, tmp_path, monkeypatch):
    mine, other = tmp_path / "mine.py", tmp_path / "other.py"
    for file in (mine, other):
        file.write_text('STUDY = Study(name="my_study")')
    study = replace(COPY, name="my_study")
    monkeypatch.setattr(ownership, "declaring_file", lambda *_: (str(mine), "digest of what mine.py declares"))
    object.__setattr__(study, "declared_in", "")  # a notebook's cell
    line = refusal(capsys, study, "--plan", "--runs", str(tmp_path / "runs"))
    assert line.startswith(f"error: name: 'my_study' belongs to {mine}; ")
    object.__setattr__(study, "declared_in", str(other))
    line = refusal(capsys, study, "--plan", "--runs", str(tmp_path / "runs"))
    assert line.startswith(f"error: name: 'my_study' belongs to {mine}; ")
    mine.write_text("renamed")  # another study by now
    ownership.require_name(replace(study, seeds=3), "")
    mine.unlink()
    ownership.require_name(study, "")


def test_the_same_declaration_may_stand_in_two_files(tmp_path, monkeypatch):
    clone = tmp_path / "studies" / "branch_count.py"
    clone.parent.mkdir()
    shutil.copy(SHIPPED.declared_in, clone)
    other = runpy.run_path(str(clone))["STUDY"]
    assert (other.declared_in, other) == (str(clone), SHIPPED)
    tags = ownership.declared_tags(SHIPPED)
    monkeypatch.setattr(ownership, "declaring_file", lambda *_: (tags["declared_in"], tags["declaration"]))
    ownership.require_name(other, "")
    monkeypatch.setattr(ownership, "declaring_file", lambda *_: (str(clone), "digest of an older version"))
    ownership.require_name(SHIPPED, "")


@pytest.mark.parametrize("more", ["", 'SECOND = Study("second", "?", FACTORS)'])
def test_a_file_may_call_its_study_as_it_likes_and_hold_several(more, tmp_path, monkeypatch):
    text = """from mobileone_core.study import Factor, Study
FACTORS = (Factor("k", "model.k", levels=(1, 4), baseline=1),)
MINE = Study("mine", "?", FACTORS)
"""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.py").write_text(text + more)
    monkeypatch.setattr(ownership, "workspace_directory", lambda: tmp_path)
    declared = runpy.run_path(str(tmp_path / "studies" / "mine.py"))
    ownership.require_shipped(declared["MINE"])
    with pytest.raises(InputError, match=r"belongs to studies/mine\.py"):
        ownership.require_shipped(replace(declared["MINE"], seeds=3))


def test_only_the_plan_that_reports_shows_goes_there_unasked():
    own, changed = planned(replace(COPY, name="my_study")), planned(replace(SHIPPED, seeds=3))
    assert report_directory(planned(SHIPPED), RUNS, None, True) == reports_directory()
    assert report_directory(own, RUNS, None, True) == RUNS.runs / "reports"
    assert report_directory(changed, RUNS, None, True) == RUNS.runs / "reports"
    assert report_directory(own, RUNS, reports_directory(), True) == reports_directory()


def test_recorded_runs_of_a_foreign_declaration_never_reach_the_shipped_report(tmp_path):
    plan = planned(COPY)
    assert report_directory(plan, RUNS, None, True) == RUNS.runs / "reports"
    assert report_directory(plan, RUNS, tmp_path, True) == tmp_path
    with pytest.raises(InputError, match=r"^name: 'branch_count' belongs to studies/branch_count\.py"):
        report_directory(plan, RUNS, reports_directory(), True)


def test_a_study_that_changed_is_reported_beside_its_earlier_record(monkeypatch, capsys):
    plans = planned(SHIPPED), planned(replace(SHIPPED, seeds=3))
    monkeypatch.setattr(report, "read_record", lambda *_: StudyRecord())
    sources = report._sources(RUNS, reports_directory(), plans, ())
    assert [plan for plan, *_ in sources] == [plans[0]]
    assert capsys.readouterr().err == "branch_count: cells of an earlier declaration of the study are left out\n"
    with pytest.raises(InputError, match="belongs to"):
        list(report._sources(RUNS, reports_directory(), plans[1:], ()))


def test_the_readme_quotes_the_unchanged_study_alone(tmp_path, monkeypatch):
    text = "<!-- table:branch_count -->\nas shipped\n<!-- end table:branch_count -->\n"
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(report, "workspace_directory", lambda: tmp_path)
    monkeypatch.setattr(report, "reports_directory", lambda requested=None: requested or tmp_path / "reports")
    plan = replace(planned(replace(SHIPPED, seeds=3)), default=False)
    assert list(report._write([(plan, StudyRecord(), tmp_path / "reports")]))
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize("name", ["README.md", "branch_count/README.md"])
def test_a_page_written_by_hand_is_not_replaced(name, tmp_path):
    (tmp_path / "branch_count").mkdir()
    (tmp_path / name).write_text("# My notes\n")
    with pytest.raises(InputError, match=r"README\.md is no report and stays as it is"):
        write_report(planned(SHIPPED), StudyRecord(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_directories_that_cannot_be_used_are_refused_before_anything_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "run_plan", lambda *_: pytest.fail("it ran"))
    (tmp_path / "file").write_text("")
    for option in (("--reports", str(tmp_path / "file")), ("--reports", str(tmp_path / "file" / "below"))):
        line = refusal(capsys, SHIPPED, "--runs", str(tmp_path / "runs"), *option)
        assert line == (
            f"error: reports: {option[1]!r} is not allowed; {tmp_path / 'file'} is no directory that can be written to"
        )
    assert "runs: " in refusal(capsys, SHIPPED, "--runs", str(tmp_path / "file"))
    assert not (tmp_path / "runs").exists()
    require_report_directory(tmp_path / "several" / "levels")
