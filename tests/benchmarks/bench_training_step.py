"""Time and memory of a training step against k, by branches, folded and by the measured rule; timm beside them.

    python tests/benchmarks/bench_training_step.py [--variant s0] [--k 1 4 8] [--batch 8] [--image-size 224] ...

Forward, loss and backward on random images. Paths take turns in every round, and ratios are taken round by round, so
that a busy machine disturbs all alike; with --processor, times are processor times of this process (use it with
--threads 1), which other processes disturb less. Memory is what autograd keeps for the backward pass: every storage
once, parameters left out. timm's network is mobileone_s0 with k = 4 and our weights. On a GPU, eager and compiled:

    python tests/benchmarks/bench_training_step.py --device cuda --precision bf16 --channels-last [--compile] \
        --batch 256 --k 1 4 8 --rounds 20 --paths branches folded timm
"""

import argparse
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from turns import take_turns

from mobileone_core.benchmark.calls import saved_bytes
from mobileone_core.benchmark.subjects.step import timm_twin
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec

MIB = 2**20


class Trained(NamedTuple):
    """A network and its parameters, of which an optimizer has a list, too."""

    network: nn.Module
    parameters: list[nn.Parameter]


def step(trained: Trained, images: Tensor, labels: Tensor, precision: str) -> None:
    """To its end on the device; bf16 is autocast."""
    for parameter in trained.parameters:
        parameter.grad = None
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        loss = F.cross_entropy(trained.network(images), labels)
    loss.backward()
    if images.is_cuda:
        torch.cuda.synchronize()


def networks(arguments: argparse.Namespace) -> dict[str, nn.Module]:
    """The networks in training mode by label, of one k all with the same weights; of timm there is one."""
    built: dict[str, nn.Module] = {}
    for path in arguments.paths:
        if path == "timm":
            torch.manual_seed(0)
            built["timm k=4"] = timm_twin(build_model(ModelSpec.preset("s0"), 1000), "s0", 1000).train()
            continue
        for k in arguments.k:
            torch.manual_seed(0)
            spec = ModelSpec.preset(arguments.variant, k=k, reparam=not arguments.no_reparam)
            built[f"{path} k={k}"] = build_model(spec, 1000, path).train()
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    return {label: network.to(arguments.device, memory_format=layout) for label, network in built.items()}


def measure(arguments: argparse.Namespace) -> None:
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    images = torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size)
    images = images.to(arguments.device, memory_format=layout)
    labels = torch.arange(arguments.batch, device=arguments.device) % 1000
    built = networks(arguments)
    with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16"):
        memory = {name: saved_bytes(partial(network, images), network.parameters()) for name, network in built.items()}
    if arguments.compile:  # memory is that of eager networks
        built = {label: torch.compile(network) for label, network in built.items()}
    trained = {label: Trained(network, list(network.parameters())) for label, network in built.items()}
    calls = {label: partial(step, each, images, labels, arguments.precision) for label, each in trained.items()}
    samples = take_turns(calls, arguments.rounds, processor=arguments.processor)
    first = next(iter(built))
    print(f"{'':<14} {'ms':>8} {'MiB kept':>9} {'/ ' + first:>15}   median of {arguments.rounds} rounds")
    for label in calls:
        time, to_first = samples.median(label).value, samples.ratio(label, first).value
        print(f"{label:<14} {time:>8.1f} {memory[label] / MIB:>9.0f} {to_first:>15.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="s0")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--no-reparam", action="store_true", help="plain networks of one branch, with --k 1")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    choices = ["branches", "folded", "auto", "timm"]
    parser.add_argument("--paths", nargs="+", choices=choices, default=["branches", "folded", "auto"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor", action="store_true", help="processor time instead of wall time")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32", choices=["32", "bf16"])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="by torch.compile; the first round compiles")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(arguments)


if __name__ == "__main__":
    main()
