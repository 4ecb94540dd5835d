"""Forward and backward of single blocks, by branches and folded, and how far the folded ones are from the limit.

    python tests/benchmarks/bench_folded_blocks.py [--batch 8] [--image-size 224] [--k 1 2 4 8] [--rounds 9] ...

Every block of S0 that differs in kind or size, in float32. branches / folded: above 1 the folded path is faster.
The limit is what any exact method must spend on a block with k branches:

    bytes        read x, write y; read x and dy, write dx; read the weights twice, write their gradients
    operations   three convolutions; the moments of the patches and their gradient; w S w by half of S, the gradients
                 of w by all of it, and half of that of S

through what this machine reaches in a copy and in a matrix product of its size: the longer of both times. A stem's
input needs no gradient. Paths take turns, so that a busy machine disturbs both alike; --processor takes this process's
processor time instead (with --threads 1).
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from gpu_limits import Rates, least_work
from torch import Tensor
from turns import take_turns

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec


class Case(NamedTuple):
    """A block, its input and what comes back."""

    name: str
    block: MobileOneBlock
    x: Tensor
    to_y: Tensor

    def step(self, execution: str) -> None:
        self.block.execution = execution
        self.block.zero_grad()
        self.x.grad = None
        self.block(self.x).backward(self.to_y)


def label(block: MobileOneBlock, x: Tensor) -> str:
    geometry = Geometry.of(block.spec)
    kind = "pointwise" if geometry.pointwise else "depthwise" if geometry.depthwise else "dense"
    return f"{kind} {geometry.in_channels} > {geometry.out_channels} / {geometry.stride} at {x.shape[-1]} px"


def cases(arguments: argparse.Namespace, k: int) -> Iterator[Case]:
    """Every block of the variant whose kind or size no other has."""
    network = build_model(ModelSpec.preset(arguments.variant, k=k), 10, "folded").train()
    found: dict[str, Case] = {}

    def keep(block: MobileOneBlock, given: tuple[Tensor, ...], output: Tensor) -> None:
        x = torch.randn(given[0].shape, requires_grad=block.spec.in_channels > 3)
        name = label(block, x)
        found.setdefault(name, Case(name, block, x, torch.randn(output.shape)))

    blocks = [part for part in network.modules() if isinstance(part, MobileOneBlock)]
    hooks = [block.register_forward_hook(keep) for block in blocks]
    network(torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size))
    for hook in hooks:
        hook.remove()
    return iter(found.values())


def best(call: Callable[[], object], rounds: int = 15) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def reach() -> tuple[float, float]:
    """This machine's bytes a second in a copy that no cache holds, and multiply-adds a second in a product."""
    large, target = torch.randn(2**25), torch.empty(2**25)
    square = torch.randn(1536, 1536)
    return 8 * 2**25 / best(lambda: target.copy_(large)), 1536**3 / best(lambda: square @ square)


def measure(arguments: argparse.Namespace) -> None:
    bandwidth, rate = reach()
    print(f"{bandwidth / 1e9:.0f} GB/s, {rate / 1e9:.0f} billion multiply-adds a second, {arguments.threads} threads")
    heads = f"{'branches ms':>12} {'folded ms':>10} {'branches / folded':>18} {'limit ms':>9} {'/ limit':>8}"
    print(f"{'':<32} {'k':>2} {heads}")
    for k in arguments.k:
        for case in cases(arguments, k):
            calls = {execution: partial(case.step, execution) for execution in ("branches", "folded")}
            samples = take_turns(calls, arguments.rounds, processor=arguments.processor)
            gain, (branches, folded) = samples.ratio(*calls).value, (samples.median(path).value for path in calls)
            bound = 1000 * least_work(case.block.spec, case.x.shape, 4).seconds(Rates(bandwidth, rate, rate))
            figures = f"{branches:>12.2f} {folded:>10.2f} {gain:>18.2f} {bound:>9.2f} {folded / bound:>8.1f}"
            print(f"{case.name:<32} {k:>2} {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="s0")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor", action="store_true", help="processor time instead of wall time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(arguments)


if __name__ == "__main__":
    main()
