import torch
from torch import nn

from mobileone_core.model.network import calibrate


def test_calibration_gives_the_statistics_of_its_batches():
    norm = nn.BatchNorm2d(3)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 3, 5, 5, generator=generator) * 7 + 3 for _ in range(3)]
    calibrate(norm, batches)
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variance = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.momentum == 0.1
    assert not norm.training
