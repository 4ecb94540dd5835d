"""Whether a network's activations are ordinary numbers, in which timing is fair."""

import torch
from torch import nn

LARGEST = 1e4


@torch.no_grad()
def require_ordinary(network: nn.Module, images: torch.Tensor) -> None:
    """Fail where a layer's output is not finite, has exploded, or holds denormals."""
    tiny = torch.finfo(torch.float32).tiny

    def look(module: nn.Module, _: object, output: object) -> None:
        for values in output if isinstance(output, tuple | list) else (output,):
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                size = values.abs()
                assert size.isfinite().all(), module
                assert size.max() < LARGEST, module
                assert not ((size > 0) & (size < tiny)).any(), module

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    output = network(images)
    for hook in hooks:
        hook.remove()
    assert output.std() > 1e-4  # nor vanished
