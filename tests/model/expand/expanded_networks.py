"""Small networks and what tests do with them."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def conv_norm(*arguments, norm=nn.BatchNorm2d, **options):
    conv = nn.Conv2d(*arguments, **options)
    return nn.Sequential(conv, norm(conv.out_channels), nn.ReLU())


def randomize(model, seed=0):
    """Random parameters and statistics of every norm, all gammas away from 0."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (module for module in model.modules() if isinstance(module, _NormBase)):
        norm.running_mean.normal_(0, 0.1, generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        if norm.affine:
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.1, generator=generator)
    return model


def difference(ours, theirs):
    """The largest absolute difference, as a share of the largest value."""
    with torch.no_grad():
        return float((ours - theirs).abs().max() / theirs.abs().max())


class Residual(nn.Module):
    """Its modules are registered in another order than that of the calls."""

    def __init__(self, control_flow=False):
        super().__init__()
        self.bn2, self.bn1 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.alone = nn.Conv2d(6, 6, 1)
        self.conv2, self.conv1 = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(3, 6, (5, 3), padding=(2, 1), bias=False)
        self.control_flow = control_flow

    def forward(self, x):
        if self.control_flow and x.sum() > 1e9:  # torch.fx cannot trace it
            return x
        x = self.bn1(self.conv1(x)).relu()
        return self.alone(x) + self.bn2(self.conv2(x))
