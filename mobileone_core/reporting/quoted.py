"""What the paper says in words, kept as data and always shown as published (arXiv 2206.04040v2)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quoted:
    """A finding of the paper's text about what a study asks, and where it stands."""

    study: str
    source: str
    words: str


QUOTED = (
    Quoted(
        "reparam_effect",
        "text on figure 4; S0 on ImageNet, no seeds, no spread",
        "from no branches to k = 1 the train loss falls by 3.4 %, to k = 4 by a further 1 % or so; from no branches "
        "to k = 4 the validation loss falls by 3.1 %.",
    ),
    Quoted(
        "reparam_effect",
        "figure 4, read off the curves at epoch 300; S0 on ImageNet",
        "for none, k = 1 and k = 4 train loss about 2.43, 2.34 and 2.32, validation loss about 2.30, 2.24 and 2.22.",
    ),
    Quoted(
        "block_latency",
        "table 3; its numbers could not be sourced",
        "squeeze-and-excite blocks and skip connections both raise the latency of the 30-layer network.",
    ),
)
