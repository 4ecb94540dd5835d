"""The help of a study's command line."""

import ast
import re
import runpy
from pathlib import Path

import pytest

from mobileone_core.cli.console import COMMANDS
from mobileone_core.cli.console import parse as parse_command
from mobileone_core.cli.options.study import parse
from mobileone_core.fields import help_texts
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Study
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.training.recipe import Recipe

STUDIES = {
    path.stem: runpy.run_path(str(path))["STUDY"] for path in (Path(__file__).parents[2] / "studies").glob("*.py")
}
STUDY = STUDIES["branch_count"]
HELP = help_texts(ModelSpec) | help_texts(Recipe)


def help_text(capsys, *options, study=STUDY):
    """The help as one line of words."""
    with pytest.raises(SystemExit) as ended:
        parse(study, [*options, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("command", [*COMMANDS, "latency run", "latency import"])
def test_help_explains_every_option_of_a_command_without_ragged_lines(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        parse_command([*command.split(), "--help"])
    _, _, boxes = capsys.readouterr().out.partition("╭")  # above them stands the description, in lines of its own
    lines = [line.strip("│ ") for line in boxes.splitlines()]
    known = re.compile(r"usage:.*|[\w ]+ (options|arguments)|options|subcommands|\(required\)|check .*|auto, cpu.*")
    assert not [line for line in lines if re.match(r"[a-z(]", line) and not known.fullmatch(line)]
    assert not [line for line in lines if re.fullmatch(r"--[\w-]+ \S*\s+\(default.*", line)]


@pytest.mark.parametrize("command", ["", *COMMANDS, "latency run", "latency import"])
def test_help_of_a_command_fits_80_columns(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse_command([*command.split(), "--help"])
    _, _, text = capsys.readouterr().out.partition("\n\n")  # behind the usage, which tyro writes in one line
    assert "options" in text
    assert not [line for line in text.splitlines() if len(line) > 80]


def test_help_needs_no_data(capsys):
    assert STUDY.question in help_text(capsys, "--data", "folder")


def test_help_shows_the_values_of_the_presets_named(capsys):
    assert f"--epochs INT {HELP['epochs']} (default: 300)" in help_text(capsys, "--recipe", "paper")


@pytest.mark.parametrize("name", sorted(name for name, study in STUDIES.items() if isinstance(study, Study)))
def test_help_explains_every_field_that_is_offered(capsys, name):
    study = STUDIES[name]
    fields = {"model": ModelSpec.__dataclass_fields__, "recipe": Recipe.__dataclass_fields__}
    assert set(HELP) == {*fields["model"], *fields["recipe"]} - {"in_channels"}
    varied = {field for factor in study.factors for field in factor.fields}
    varied |= set() if study.task == "classification" else {"recipe.scales"}  # the option --scales is the head's
    if study.name == "expand_any":  # its levels are whole networks
        varied |= {f"model.{name}" for name in fields["model"]}
    text = help_text(capsys, study=study)
    for part, names in fields.items():
        for field in set(names) - {"in_channels"}:
            assert f"{part}.{field}" in varied or f"{HELP[field]} (default: " in text, field
    assert f"--seeds N|auto {help_texts(Study)['seeds']} (default: {study.seeds})" in text


@pytest.mark.parametrize("name", sorted(name for name, study in STUDIES.items() if isinstance(study, MeasuredStudy)))
def test_help_explains_every_field_that_a_measured_study_offers(capsys, name):
    study = STUDIES[name]
    text = help_text(capsys, study=study)
    varied = {field for factor in study.factors for field in factor.set_fields} | {"runtime.name"}
    for part, spec in {**study.base.parts, "": study.protocol}.items():
        for field in vars(spec):
            assert f"{part}.{field}" in varied or help_texts(type(spec))[field] in text, field


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("branch_count", f"Levels of model.k; baseline 1. {HELP['k']} (default: 1 2 3 4 5 8 16)"),
        ("se_usage", f"Levels of model.se; baseline none. {HELP['se']} Several integers as 0,0,1,1. (default: none"),
        ("width_and_depth", "Multiples of the variant's widths, rounded to a multiple of 8; baseline 1.0. (default"),
        ("width_and_depth", "Multiples of the variant's depths, at least one block per stage; baseline 1.0. (default"),
        ("reparam_effect", "none: reparam off; 1: k 1; 4: k 4. Baseline none. (default: none 1 4)"),
        ("distillation", "off: teachers none; on: set by --teachers. Baseline off. (default: off on)"),
        ("training_strategy", "off: ema_decay 0; on: set by --ema-decay. Baseline off. (default: off on)"),
        ("training_strategy", "off: weight_decay_end None; on: set by --weight-decay-end. Baseline off."),
    ],
)
def test_help_says_what_levels_set(capsys, name, words):
    assert words in help_text(capsys, study=STUDIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STUDIES))
def test_help_fits_eighty_columns_and_has_the_examples(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    document = ast.get_docstring(ast.parse((Path("studies") / f"{name}.py").read_text()), clean=False)
    with pytest.raises(SystemExit):
        parse(STUDIES[name], ["--help"], document)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).replace("\\", "").split())
    commands = re.findall(r"^    (python .*?)(?:  +#.*)?$", document, re.MULTILINE)
    assert commands
    assert all(command in text for command in commands)


def test_help_shows_what_is_on(capsys):
    text = help_text(capsys)
    assert f"--nesterov, --no-nesterov {HELP['nesterov']} (default: on)" in text
    assert f"--decay-norm-and-bias {HELP['decay_norm_and_bias']} (default: off)" in text
    assert "--no-plan" not in text
    assert not parse(STUDY, ["--no-nesterov"]).request.plan.base.recipe.nesterov
    assert parse(STUDY, ["--nesterov"]).request.plan.default
