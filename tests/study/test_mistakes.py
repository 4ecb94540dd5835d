"""A mistake in a study's file is one line with the file, the field and what is allowed, and exit status 2."""

import subprocess
import sys

import pytest

from mobileone_core.cli import main
from mobileone_core.errors import InputError
from mobileone_core.study import Factor, MeasuredStudy, Study

K = {"field": "model.k", "levels": (1, 4), "baseline": 1}


def factor(name="k", **changes):
    return Factor(name, **(K | changes))


def declared(*factors, **changes):
    return Study("study", "?", factors or (factor(),), **changes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Study("my study", "?", (factor(),)), "name: 'my study' is not allowed; .*did you mean 'my_study'"),
        (lambda: Study("study", "?", factor()), "factors: .* a tuple, which is written"),
        (lambda: Study("study", (factor(),)), "Study: missing a required argument: .factors."),
        (lambda: declared(factor(), factor()), "factors: .* names, each once"),
        (lambda: declared(sedes=3), "Study, argument: 'sedes' .*did you mean 'seeds'"),
        (lambda: declared(seeds="3"), "seeds: '3' is not allowed; an integer"),
        (lambda: declared(variant="tinny"), "variant: 'tinny' .*did you mean 'tiny'"),
        (lambda: declared(data="digit"), "data: 'digit' .*did you mean 'digits'"),
        (lambda: declared(recipe="papers"), "recipe: 'papers' is not allowed; one of digits, .*paper, .*fitted"),
        (lambda: declared(metric="test/top"), "metric: 'test/top' is not allowed; .*test/top"),
        (lambda: declared(curves="train/loss"), "curves: 'train/loss' is not allowed; a tuple"),
        (lambda: declared(base={"recipe.lrr": 0.1}), "base: 'recipe.lrr' .*did you mean 'recipe.lr'"),
        (lambda: declared(factor(baseline=2)), "the baseline level 2 must be among the levels"),
        (lambda: declared(factor(levels=(1, "4"))), "k: '4' is not allowed; an integer from 1 to 16"),
        (lambda: declared(factor(field="network.k")), "k, field: 'network.k' is not allowed; one of model.widths"),
        (lambda: factor(field="model.kk"), "k, field: 'model.kk' is not allowed; did you mean 'model.k'"),
        (lambda: factor(levels=4), "k, levels: 4 is not allowed; a tuple"),
        (lambda: factor(levels=()), "k: .* one or more levels"),
        (lambda: factor("two words"), "name of a factor: 'two words' is not allowed"),
        (lambda: factor(baselin=1), "Factor, argument: 'baselin' .*did you mean 'baseline'"),
        (lambda: Factor("ema", settings={"on": {}, "off": 0}), "ema, settings: 0 is not allowed"),
        (lambda: Factor("ema", settings={1: {"recipe.ema_decay": 0.0}}), "ema, settings: .* names as text"),
        (lambda: Factor("ema", settings={"on": {1: 0.0}}), "ema, settings: .* names as text"),
        (lambda: factor(levels=((1, [2]),)), r"k, levels: \[2\] is not allowed; a tuple of int"),
        (lambda: Factor("k", "model.k", (1, 4), 1, {}, (), 7), "Factor: too many positional arguments"),
        (lambda: Study("study", "?", ()), "factors: .* one factor or more"),
        (lambda: declared(curves=("train/los",)), "curves: 'train/los' .*did you mean 'train/loss'"),
        (lambda: declared(base=None), "base: None is not allowed; fields and their values"),
        (lambda: declared(base={"recipe.epochs": "ten"}), "base, epochs: 'ten' is not allowed; an integer"),
        (lambda: declared(base={"recipe.phases": ((0.5, 16, 0.0),)}), "base, phases: .* one of none, paper"),
        (lambda: declared(base={"recipe.teachers": "larger"}), "base, teachers: 'larger' .* a tuple"),
        (lambda: MeasuredStudy("study", "?", (factor(),)), "k, field: 'model.k' is not allowed"),
    ],
)
def test_a_mistake_is_named(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_lists_are_tuples():
    assert declared(factor(levels=[1, 4]), curves=["train/loss"]) == declared(curves=("train/loss",))


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (declared(published="table6_branch_count"), "did you mean 'table6_branch_count_top1'?"),
        (declared(factor("lr")), "name of a factor: 'lr' is not allowed"),
        (declared(factor("help")), "name of a factor: 'help' is not allowed"),
        (declared(factor("seeds")), "name of a factor: 'seeds' is not allowed"),
        (declared(factor("seed")), "name of a factor: 'seed' is not allowed"),
    ],
)
def test_what_only_a_command_knows_is_named_before_training(study, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(study, ["--runs", str(tmp_path / "runs")])
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert words in line
    assert not (tmp_path / "runs").exists()


def test_a_file_ends_in_one_line(tmp_path):
    """A fresh interpreter, because the error is raised at import, before any main."""
    file = tmp_path / "study.py"
    file.write_text("from mobileone_core.study import Factor\n\nFactor('k', 'model.kk', (1, 4), 1)\n", encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    expected = f"error: {file}, line 3: k, field: 'model.kk' is not allowed; did you mean 'model.k'?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_changed_copy_names_the_users_file(tmp_path):
    file = tmp_path / "study.py"
    lines = ("from dataclasses import replace", "from mobileone_core.study import Factor, Study", "")
    lines += ("STUDY = Study('a', '?', (Factor('k', 'model.k', (1, 4), 1),))", "replace(STUDY, seds=3)", "")
    file.write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {file}, line 5: Study, argument: 'seds' is not allowed; one of name, ")
    assert done.stderr.endswith("did you mean 'seeds'?\n")


def test_other_errors_keep_their_traceback(tmp_path):
    file = tmp_path / "study.py"
    file.write_text("import mobileone_core.study.mistakes\n\nraise ValueError('other')\n", encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
