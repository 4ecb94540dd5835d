"""Exponential moving average (EMA) of a network: the weights that are validated, tested and saved."""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedNetwork(nn.Module):
    """average = decay * average + (1 - decay) * network after every optimizer step, from the initial weights on.

    BatchNorm's running mean and variance are averaged with the same decay as the weights, as timm's ModelEmaV2 does,
    so that they lag as far as the weights they belong to. Integer buffers (batch counters) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._integers: tuple[list[Tensor], list[Tensor]] = ([], [])

    def forward(self, images: Tensor) -> Tensor:
        """The averaged network's output."""
        outputs: Tensor = self.module(images)
        return outputs

    def follow(self, network: nn.Module) -> None:
        """Choose the network to average; call it once both networks are on their device."""
        pairs = list(zip(self.module.state_dict().values(), network.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        integers = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._floats = ([average for average, _ in floats], [current for _, current in floats])
        self._integers = ([average for average, _ in integers], [current for _, current in integers])

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the average."""
        self._average(*self._floats, None)
        if self._integers[0]:
            torch._foreach_copy_(*self._integers)


def warn_if_horizon_is_long(decay: float, steps: int) -> None:
    """Warn if the average still remembers much of the initial weights when training ends after steps steps."""
    horizon = 1 / (1 - decay)
    if horizon > steps / 10:
        warnings.warn(
            f"ema_decay {decay:g} averages over {horizon:.0f} steps, more than a tenth of this run's {steps}; "
            f"at most {1 - 10 / steps if steps > 10 else 0:.4g} fits",
            UserWarning,
            stacklevel=2,
        )
