"""What stands beside a measured accuracy."""

from dataclasses import replace

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.reporting.evaluation import EvaluationSetting, published_top1, standard_error


def test_published_accuracy_stands_beside_the_papers_networks_on_imagenet_alone():
    setting = EvaluationSetting("s0", True, "imagenet", "test", "train", "0.875", "bilinear", 224)
    printed = [published_top1(replace(setting, variant=f"s{number}")) for number in range(5)]
    assert printed == ["71.4", "75.9", "77.4", "78.1", "79.4"]
    for other in ({"variant": "tiny"}, {"data": "folder"}, {"split": "val"}, {"is_preset": False}):
        assert published_top1(replace(setting, **other)) == ""


@given(st.integers(1, 500), st.data())
def test_standard_error_is_that_of_a_binomial(images, data):
    right = data.draw(st.integers(0, images))
    deviation = scipy.stats.binom(images, right / images).std()
    assert standard_error(right / images, images) == pytest.approx(deviation / images, abs=1e-9)
