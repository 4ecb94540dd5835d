"""A training step of other networks: plain, expanded by branches, folded everywhere, and by the measured rule.

    python tests/benchmarks/bench_expand.py [--networks torchvision:mobilenet_v2 timm:NAME] [--k 4] [--rounds 3] ...

Forward, loss and backward on 8 random images of 224 px, on one thread, in processor time of this process. All take
turns in every round, and ratios to the plain network are taken round by round. Memory is what autograd keeps for the
backward pass: every storage once, parameters left out; matrices of parameter size (moments, kernels) are those that do
not change with the batch.
"""

import argparse
import copy
import statistics
import time
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from mobileone_core.benchmark.calls import saved_bytes
from mobileone_core.benchmark.interleave import collection_off
from mobileone_core.model.expand.conversion import expand
from mobileone_core.model.network import calibrate

MIB = 2**20


def build(name: str) -> nn.Module:
    library, _, model = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(model, num_classes=1000)
    import torchvision

    return torchvision.models.get_model(model, weights=None)


def saved(network: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """MiB kept for backward that grow with the batch, and those that do not, scaled to the whole batch."""
    half = images[: len(images) // 2]
    whole, part = (saved_bytes(partial(network, x), network.parameters()) for x in (images, half))
    return 2 * (whole - part) / MIB, (2 * part - whole) / MIB


def step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    for parameter in network.parameters():
        parameter.grad = None
    F.cross_entropy(network(images), labels).backward()


def measure(name: str, arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    images = torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size)
    labels = torch.arange(arguments.batch)
    plain = build(name)
    calibrate(plain, [images])
    networks = {"plain": plain.train()}
    for path in arguments.paths:
        expanded = expand(copy.deepcopy(plain), k=arguments.k, method=arguments.method, execution=path)
        with torch.no_grad():  # as after some steps
            for norm in expanded.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.weight.uniform_(0.2, 0.4)
        networks[path] = expanded
    memory = {path: saved(network, images) for path, network in networks.items()}
    times: dict[str, list[float]] = {path: [] for path in networks}
    with collection_off():
        for index in range(arguments.rounds + 1):
            for path, network in networks.items():
                start = time.process_time()
                step(network, images, labels)
                if index:  # the first round warms up
                    times[path].append(1000 * (time.process_time() - start))
    print(f"{name}, k = {arguments.k}, {arguments.batch} x {arguments.image_size} px, {arguments.method}")
    for path, values in times.items():
        ratios = [statistics.median(a / b for a, b in zip(values, times[base], strict=True)) for base in networks]
        pairs = ", ".join(f"{ratio:.2f} {base}" for base, ratio in zip(networks, ratios, strict=True))
        grows, constant = memory[path]
        print(
            f"  {path:<9} {statistics.median(values):>7.0f} ms, {grows:>6.0f} + {constant:>5.0f} MiB; times: {pairs}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["torchvision:mobilenet_v2", "torchvision:resnet18"])
    parser.add_argument("--method", default="mobileone")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paths", nargs="+", default=["branches", "folded", "auto"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.networks:
        measure(name, arguments)


if __name__ == "__main__":
    main()
