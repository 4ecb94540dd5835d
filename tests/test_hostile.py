"""Whatever a file, a declaration or a command line holds is taken or refused in one line; nothing else is raised."""

import dataclasses
import json
import runpy
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mobileone_core import build_model
from mobileone_core.cli.console import parse as parse_command
from mobileone_core.cli.options.study import parse
from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.report import read_report
from mobileone_core.study.kinds import read_plan
from mobileone_core.texts import visible
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.run import read_history

ROOT = Path(__file__).parents[1]
CHECKPOINT = Path(__file__).parent / "training" / "fixtures" / "22d9c40" / "last.ckpt"
LONGEST = 4000  # characters of a message: it may list all fields that are allowed
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
fewer = settings(few, max_examples=25)

signs = st.text(max_size=8) | st.sampled_from(
    ["\x1b[1m", "\u202e", "../../x", "/etc/passwd", "=1+1", "nan", "9" * 5000]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | signs | st.just(10**400)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(signs, inner, max_size=3), max_leaves=6
)


def taken(read, *arguments):
    """The value read; None where it is refused, in one line that a terminal can show."""
    try:
        return read(*arguments)
    except InputError as error:
        message = visible(str(error))  # as a command shows it
        assert "\n" not in message
        assert 0 < len(message) < LONGEST
        return None


def declared(study):
    return runpy.run_path(str(ROOT / "studies" / f"{study}.py"))["STUDY"]


@pytest.fixture(scope="module")
def texts():
    """Recorded plans of every kind, and a cell, with what reads them."""
    studies = map(declared, ("distillation", "block_latency", "training_cost", "pareto_search"))
    plans = [parse(study, ()).request.plan.to_json() for study in studies]
    cell = CellSpec(recipe=recipe_preset("digits")).to_json()
    return [*((text, read_plan) for text in plans), (cell, CellSpec.from_json)]


def places(content, path=()):
    """The path of every value in JSON content."""
    yield path
    for name, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        yield from places(value, (*path, name))


def changed(content, path, value):
    if not path:
        return value
    content = content.copy()
    content[path[0]] = changed(content[path[0]], path[1:], value)
    return content


@few
@given(st.data())
def test_a_recorded_plan_or_cell_with_any_value_in_any_place(texts, data):
    text, read = data.draw(st.sampled_from(texts))
    content = json.loads(text)
    path = data.draw(st.sampled_from(list(places(content))))
    taken(read, json.dumps(changed(content, path, data.draw(values))))


@few
@given(st.data())
def test_a_recorded_plan_or_cell_cut_short(texts, data):
    text, read = data.draw(st.sampled_from(texts))
    assert taken(read, text) is not None
    taken(read, text[: data.draw(st.integers(0, len(text)))] + data.draw(signs))
    taken(read, "[" * 100_000)


@few
@given(
    st.sampled_from([(kind, field.name) for kind in (Recipe, ModelSpec) for field in dataclasses.fields(kind)]), values
)
def test_any_value_of_any_field(field, value):
    kind, name = field
    taken(lambda: kind(**{name: value}))


OPTIONS = ("--k", "--seeds", "--lr", "--epochs", "--variant", "--phases", "--teachers", "--data", "--runs", "--queue")
OPTIONS += ("--activation", "--image-size", "--threads", "--workers", "--plan", "--no-nesterov", "--recipe", "--init")
words = st.lists(st.sampled_from(OPTIONS) | signs | st.floats().map(str) | st.integers().map(str), max_size=4)


@pytest.mark.slow
@fewer
@given(words)
def test_any_command_line_of_a_study(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    taken(parse, declared("branch_count"), [word for word in line if word != "--help"])
    assert not [*tmp_path.iterdir()]


COMMANDS = ("status", "report", "compare", "exclude", "forget", "clean", "ui", "data", "check", "evaluate", "predict")
COMMANDS += ("export", "latency", "run", "import", "--run", "--output", "--top", "--images", "--yes", "--merge")


@pytest.mark.slow
@fewer
@given(st.lists(st.sampled_from(COMMANDS) | signs, max_size=4))
def test_any_line_of_mobileone(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    taken(lambda: parse_command(line).check())
    assert not [*tmp_path.iterdir()]


@st.composite
def damage(draw, content):
    """Bytes with a part cut away, overwritten or put in."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.sampled_from([start, start + 1, start + 8, len(content)]))
    return content[:start] + draw(st.binary(max_size=8)) + content[end:]


@few
@given(damage(CHECKPOINT.read_bytes()))
def test_a_damaged_checkpoint(tmp_path, content):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    history = taken(read_history, path)
    assert history is None or all(record.epoch for record in history)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(build_model(ModelSpec.preset("tiny", k=1)).state_dict(), path)
    return path.read_bytes()


@fewer
@given(st.data())
def test_damaged_weights(weights, tmp_path, data):
    content, suffix = data.draw(st.sampled_from([(weights, "safetensors"), (CHECKPOINT.read_bytes(), "ckpt")]))
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(data.draw(damage(content)))
    taken(read_weights, path)


@fewer
@given(st.data())
def test_a_report_with_damaged_files(tmp_path, data):
    """`mobileone report --merge` reads such reports from elsewhere."""
    source = (
        ROOT / "reports" / data.draw(st.sampled_from(["activation", "block_latency", "detection", "pareto_search"]))
    )
    home = tmp_path / "report"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for path in source.iterdir():
        if path.suffix in (".csv", ".json"):
            shutil.copy(path, home)
    assert taken(read_report, home) is not None
    broken = home / data.draw(st.sampled_from(["cells.csv", "plan.json"]))
    lines = broken.read_text().splitlines()
    line = data.draw(st.integers(0, len(lines) - 1))
    cells = lines[line].split(",")
    cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(signs)
    lines[line] = ",".join(cells)
    broken.write_text("\n".join(lines))
    taken(read_report, home)
    assert [*tmp_path.iterdir()] == [home]
