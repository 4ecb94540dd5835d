"""The facts shown next to a measured accuracy."""

from dataclasses import replace

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.reporting.evaluation import EvaluationSetting, corruption_table, published_accuracy, standard_error


def test_published_accuracy_stands_beside_the_papers_networks_on_imagenet_alone():
    setting = EvaluationSetting("s0", True, "imagenet", "test", "train", "0.875", "bilinear", 224)
    printed = [published_accuracy(replace(setting, variant=f"s{number}"), 50_000) for number in range(5)]
    assert printed == [f"{value} (table 9)" for value in ("71.4", "75.9", "77.4", "78.1", "79.4")]
    for other in ({"variant": "tiny"}, {"data": "folder"}, {"split": "val"}, {"is_preset": False}):
        assert published_accuracy(replace(setting, **other), 50_000) == ""
    assert published_accuracy(setting, 49_999) == ""
    for name, value in (("imagenet-a", "10.8"), ("imagenet-r", "41.8"), ("imagenet-sketch", "29.2")):
        other = replace(setting, variant="s4", data=name)
        assert published_accuracy(other, 7_500) == f"{value} (table 12)"
        assert published_accuracy(replace(other, data=f"part of {name}"), 7_500) == ""


def test_a_part_of_imagenet_c_has_errors_and_no_mean_corruption_error():
    setting = EvaluationSetting("s0", True, "imagenet-c", "test", "train", "none", "bilinear", 224)
    errors, alexnet = {("fog", 1): 0.4, ("fog", 2): 0.6, ("snow", 1): 0.5}, {"fog": 0.8, "snow": 0.9}
    table = corruption_table(replace(setting, data="part of imagenet-c"), errors, alexnet, {"test/fog_ce": 0.625})
    assert [line.split() for line in table.splitlines()[1:3]] == [
        ["fog", "40.00", "60.00", "80.00", "62.50"],
        ["snow", "50.00", "-", "90.00", "-"],
    ]
    assert "part of imagenet-c: all 75 parts" in table
    assert "mCE" not in table
    metrics = {"test/mce": 0.861, "test/mean_error": 0.66}
    *_, mce, mean = corruption_table(setting, errors, alexnet, metrics).splitlines()
    assert mce == "mean corruption error (mCE: the mean of CE) 86.10 %; published 86.4 (table 12)"
    assert mean.endswith("not divided by AlexNet's) 66.00 %")


@given(st.integers(1, 500), st.data())
def test_standard_error_is_that_of_a_binomial(images, data):
    right = data.draw(st.integers(0, images))
    deviation = scipy.stats.binom(images, right / images).std()
    assert standard_error(right / images, images) == pytest.approx(deviation / images, abs=1e-9)
