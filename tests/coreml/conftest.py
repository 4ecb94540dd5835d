import pytest
import torch

from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec

torch.set_num_threads(1)


def deployed_network(variant="tiny", classes=10, pixels=32, **changes):
    """A deployed network with statistics of random images."""
    torch.manual_seed(1)
    network = build_model(ModelSpec.preset(variant, **changes), classes)
    channels = network.spec.in_channels
    calibrate(network, [torch.randn(8, channels, pixels, pixels) for _ in range(2)])
    return reparameterize(network)


@pytest.fixture(scope="session")
def deployed():
    return deployed_network
