"""Every claim of the ledger names what exists: a typo in a study, level, metric or printed number cannot pass."""

import re
import runpy
import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mobileone_core.cli.options.study import parse
from mobileone_core.data.spec import IMAGENET_ARCHIVES
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.ledger.claims import claim_of, printed, read_claims
from mobileone_core.reporting.ledger.evidence import TESTS
from mobileone_core.reporting.measured.correlation import COSTS
from mobileone_core.study.declaration import Study
from mobileone_core.study.effects import estimated_effects
from mobileone_core.study.factor import level_label

STUDIES = {path.stem: path for path in (Path(__file__).parents[2] / "studies").glob("*.py")}
CLAIMS = {claim.id: claim for claim in read_claims()}
LIBRARIES_NETWORKS = {"mobilevit_s", "mobilenetv2_100"}  # backbones of table 11, by their names in timm
RUNNABLE = [name for name, claim in CLAIMS.items() if claim.test_command.startswith("python studies/")]


@cache
def declared(study):
    return runpy.run_path(str(STUDIES[study]))["STUDY"]


@cache
def entries(study):
    return [entry.factors for entry in parse(declared(study), ()).request.plan.spec.entries]


def is_variant(name):
    try:
        return bool(ModelSpec.preset(name))
    except ValueError:
        return False


def unknown(claim):
    """Names in a claim that its study does not have."""
    if not claim.study:
        return []
    if claim.study not in STUDIES or claim.test not in {*TESTS, "gain"}:
        return [claim.study, claim.test]
    study, levels = declared(claim.study), [*claim.levels, *([claim.base] if claim.base else [])]
    if claim.test == "evaluation":
        wrong = [level for level in levels if not is_variant(level["variant"])]
    elif claim.test == "correlation":
        wrong = [claim.metric] if claim.metric not in COSTS or study.view != "correlation" else []
    elif claim.test == "time":
        wrong = [level for level in levels if not any(level.items() <= its.items() for its in entries(study.name))]
    else:
        wrong = unknown_to_a_trained_study(claim, study, levels)
    wrong += [claim.on] if claim.on not in ("", "phone", "cpu", "gpu") else []
    return wrong + [name for name in (*claim.needs, *claim.excludes) if not is_variant(name)]


def unknown_to_a_trained_study(claim, study, levels):
    assert isinstance(study, Study)
    wrong = [claim.metric] if claim.metric not in (study.metric, *study.curves) else []
    if claim.test == "effect":
        return wrong + [level for level in levels if level not in estimated_effects(study)]
    labels = [level_label(setting) for setting in study.settings]
    labels += [f"timm:{name}" for name in LIBRARIES_NETWORKS] if study.task != "classification" else []
    labels += [level["backbone"] for level in levels if is_variant(level.get("backbone", ""))]
    return wrong + [level for level in levels if level_label(level) not in labels or set(level) != set(study.baseline)]


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_names_what_its_study_declares(name):
    claim = CLAIMS[name]
    assert not unknown(claim)
    assert claim.text.endswith(".")
    assert claim.source
    assert claim.setting


TYPOS = [
    ("k4-small", {"study": "branch_counts"}),
    ("k4-small", {"levels": ({"k": 6},)}),
    ("k4-small", {"levels": ({"kk": 4},)}),
    ("k4-small", {"metric": "test/top2"}),
    ("k4-small", {"test": "levels"}),
    ("k4-small", {"excludes": ("s9",)}),
    ("k5-small", {"base": {"k": 7}}),
    ("ema", {"levels": ({"ema": "yes"},)}),
    ("train-loss-k1", {"metric": "train/los"}),
    ("flops-cpu", {"metric": "flops"}),
    ("flops-phone", {"metric": "flops"}),
    ("s0-phone", {"on": "telephone"}),
    ("s0-phone", {"base": {"model": "mobilenet_v3"}}),
    ("se-latency", {"levels": ({"block": "see"},)}),
    ("s1-mobilenet-cpu", {"base": {"model": "mobilenet_v3"}}),
    ("repvgg", {"levels": ({"variant": "s7"},)}),
    ("detection", {"base": {"backbone": "timm:mobilevit"}}),
    ("detection", {"levels": ({"backbone": "s9"},)}),
]


@pytest.mark.parametrize(("name", "change"), TYPOS)
def test_typo_is_noticed(name, change):
    assert unknown(replace(CLAIMS[name], **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expect": "bettr"}, "k4-small, expect: 'bettr'"),
        ({"published": ("table6_branch_count_top1:s0/k9",)}, "s0/k9"),
        ({"published": ("table6_branch_count_top1:s9/k4",)}, "s9/k4"),
        ({"published": ("table66:s0/k4",)}, "table66"),
        ({"study": ""}, "k4-small, test"),
    ],
)
def test_claim_refuses_what_cannot_be(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        replace(CLAIMS["k4-small"], **change)


def test_published_numbers_are_those_of_the_tables():
    assert printed("table6_branch_count_top1", "s0", "k4") == "71.4"
    assert CLAIMS["k4-small"].published_text == "71.4 against 70.9 % (S0, ImageNet)"
    assert CLAIMS["se-latency"].published_text == "iPhone 12, 30 layers; numbers not sourced"
    assert CLAIMS["branches-small"].published_text == "71.4 against 69.6; 78.1 against 77.2 % (S0 and S3, ImageNet)"


def test_no_printed_number_is_typed_in_a_claim():
    for claim in CLAIMS.values():
        typed = {float(text) for text in re.findall(r"(?<![\w.-])\d+\.\d+", f"{claim.text} {claim.setting}")}
        assert typed <= {claim.than, 0.5}, claim.id


def test_claims_cover_every_table_and_named_figure():
    sources = " ".join(claim.source for claim in CLAIMS.values())
    names = [*(f"table {number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "11a", "11b", 12, 13)), "figure 4"]
    assert not [name for name in names if not re.search(rf"{name}\b", sources)]
    assert len(CLAIMS) == len(read_claims())


@pytest.mark.parametrize("name", RUNNABLE)
def test_command_that_would_test_a_claim_is_understood(name, tmp_path):
    claim = CLAIMS[name]
    for archive in IMAGENET_ARCHIVES:
        (tmp_path / archive).touch()
    program, script, *options = shlex.split(claim.test_command.replace(" DIR", f" {tmp_path}"))
    if "imagenet" not in options and "--data" in options:  # sets with boxes or masks: their files are read by a plan
        names = {str(name) for level in (*claim.levels, claim.base) for name in level.values()}
        assert names <= set(options)
        assert Path(script).stem in STUDIES
        return
    plan = parse(declared(Path(script).stem), options).request.plan
    assert program == "python"
    assert plan.study.name == claim.study
    if isinstance(plan.study, Study):
        assert plan.base.data.name == "imagenet"
        labels = {level_label(setting) for setting in plan.study.settings}
        wanted = claim.levels[-1:] if claim.test == "gain" else claim.levels
        assert claim.test == "effect" or {level_label(level) for level in wanted} <= labels
        assert claim.counts(plan.study.variant)


def test_lists_of_a_claim_are_tuples():
    claim = claim_of({"id": "a", "text": "b.", "source": "c", "setting": "d", "needs": ["s0"]})
    assert claim.needs == ("s0",)
    assert claim.counts("s0")
    assert not claim.counts("s1")
