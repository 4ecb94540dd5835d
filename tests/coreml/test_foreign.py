"""Networks of others: the evaluator is right not only on ours."""

import pytest
import timm
import torch
from torchvision import models

from mobileone_core.coreml.convert import convert, save
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.program import read_program
from mobileone_core.coreml.verify import TOLERANCE, worst_error
from mobileone_core.model.network import calibrate

# Each has an operator, or inputs and parameters of one, that no other here has. mobilenet_v2, efficientnet_b0,
# mnasnet1_0, regnet_y_400mf, repvgg_a0, ghostnet_100 and deit_tiny would add none.
TORCHVISION = ("mobilenet_v3_large", "shufflenet_v2_x1_0", "resnet18", "squeezenet1_1")
TIMM = ("mobilenetv1_100", "mixnet_s", "mobilevit_xs", "convnext_atto", "fastvit_t8")
SIZED = ("pit_ti_224", "convit_tiny")


def build(name):
    if name in TORCHVISION:
        return getattr(models, name)(weights=None)
    return timm.create_model(name, **({"img_size": 64} if name in SIZED else {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TORCHVISION, *TIMM, *SIZED])
def test_networks_of_others(name, tmp_path):
    torch.manual_seed(0)
    network, options = build(name), Options(64, "float32")
    calibrate(network, [torch.randn(4, 3, 64, 64) for _ in range(2)])
    save(convert(network, 3, options), tmp_path / "a.mlpackage", {})
    error = worst_error(read_program(tmp_path / "a.mlpackage"), network, torch.randn(1, 3, 64, 64), options)
    assert error <= TOLERANCE
