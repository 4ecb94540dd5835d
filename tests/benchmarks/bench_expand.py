"""A training step of other networks: plain, expanded by branches, folded everywhere, and by the measured rule.

    python tests/benchmarks/bench_expand.py [--networks torchvision:mobilenet_v2 timm:NAME] [--k 4] [--rounds 7] ...
    python tests/benchmarks/bench_expand.py --by-block [--networks ...]          # each block alone, both ways
    python tests/benchmarks/bench_expand.py --by-block --networks conv:3:48:3:2:1:224 conv:16:16:3:1:1:56

Forward, loss and backward on 8 random images of 224 px, on one thread, in processor time. Every network stands in a
process of its own, as where it is trained: beside larger ones the plain network would find memory that they have freed,
and save the time that it takes to get its own. All take turns in every round, and ratios are taken round by round.
Memory is what autograd keeps for the backward pass: every storage once, parameters left out; matrices of parameter size
(moments, kernels) are those that do not change with the batch. By block, every block whose kind or size no other has,
and "auto" says where the rule folds; conv:IN:OUT:KERNEL:STRIDE:GROUPS:PIXELS is a convolution of its own. Ratios above
1 mean that folding is faster.
"""

import argparse
import multiprocessing
import time
from functools import partial
from multiprocessing.connection import Connection

import torch
from torch import nn
from torch.nn import functional as F
from turns import take_turns

from mobileone_core.benchmark.calls import saved_bytes
from mobileone_core.benchmark.interleave import NANOSECONDS, TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.folded.block import uses_folded
from mobileone_core.model.network import calibrate
from mobileone_core.model.reparam import expand

MIB = 2**20


def build(name: str) -> nn.Module:
    library, _, model = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(model, num_classes=1000)
    import torchvision

    is_dense = model in torchvision.models.list_models(torchvision.models.segmentation) or "ssd" in model
    options = {"weights_backbone": None} if is_dense else {}
    options |= {"init_weights": False} if model == "googlenet" else {}
    return torchvision.models.get_model(model, weights=None, **options)


def logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Inputs of the loss: class scores; means of masks; means of a detector's feature maps."""
    if type(network).__name__ == "SSD":  # in training its forward pass wants boxes
        return torch.cat([values.mean((2, 3)) for values in network.backbone(images).values()], 1)
    found = network(images)
    if isinstance(found, dict):
        return found["out"].mean((2, 3))
    return found[0] if isinstance(found, tuple) else found  # GoogLeNet has auxiliary scores


def blocks_of(network: nn.Module, images: torch.Tensor) -> dict[str, tuple[ExpandedConv2d, torch.Size]]:
    """Every expanded convolution whose kind or size no other has, with the shape of its input, by description."""
    found: dict[str, tuple[ExpandedConv2d, torch.Size]] = {}

    def keep(block: ExpandedConv2d, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        geometry, size = block.geometry, given[0].shape[-1]
        kind = geometry.kind if geometry.kernel else f"{geometry.pairs.kernel} {geometry.pairs.stride}"
        name = f"{kind} {geometry.in_channels} > {geometry.out_channels} at {size} px"
        found.setdefault(name, (block, given[0].shape))

    hooks = [part.register_forward_hook(keep) for part in network.modules() if isinstance(part, ExpandedConv2d)]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def step_block(block: ExpandedConv2d, x: torch.Tensor, grad: torch.Tensor, path: str) -> None:
    block.execution = path
    block.zero_grad()
    x.grad = None
    block(x).backward(grad)


def measure_blocks(name: str, arguments: argparse.Namespace) -> None:
    kind, *numbers = name.split(":")
    torch.manual_seed(0)
    if kind == "conv":
        inputs, outputs, kernel, stride, groups, size = map(int, numbers)
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        network: nn.Module = nn.Sequential(conv, nn.BatchNorm2d(outputs))
    else:
        network, inputs, size = build(name), 3, arguments.image_size
    expand(network.train(), k=arguments.k, method=arguments.method, execution="branches")
    print(f"{name}, k = {arguments.k}, {arguments.batch} x {size} px, {arguments.method}: ms, branches / folded")
    for what, (block, shape) in blocks_of(network, torch.randn(arguments.batch, inputs, size, size)).items():
        x = torch.randn(shape, requires_grad=shape[1] > 3)
        grad = torch.randn_like(block(x))
        calls = {path: partial(step_block, block, x, grad, path) for path in ("branches", "folded")}
        samples = take_turns(calls, arguments.rounds, processor=True)
        least, ratio = [samples.times[path].min() for path in calls], samples.ratio(*calls).value
        block.execution = "auto"
        choice = "folded" if uses_folded(block, x) else "branches"
        figures = f"{least[0]:>8.1f} {least[1]:>8.1f} {least[0] / least[1]:>6.2f} (median {ratio:.2f})"
        print(f"  {what:<44} {figures}, auto: {choice}", flush=True)


def saved(network: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """MiB kept for backward that grow with the batch, and those that do not, scaled to the whole batch."""
    half = images[: len(images) // 2]
    whole, part = (saved_bytes(partial(logits, network, x), network.parameters()) for x in (images, half))
    return 2 * (whole - part) / MIB, (2 * part - whole) / MIB


def step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    for parameter in network.parameters():
        parameter.grad = None
    F.cross_entropy(logits(network, images), labels).backward()


def network_of(name: str, path: str, images: torch.Tensor, arguments: argparse.Namespace) -> nn.Module:
    """The plain network or an expanded one, in training, with the batch norms of some steps."""
    torch.manual_seed(0)
    network = build(name)
    calibrate(network.backbone if type(network).__name__ == "SSD" else network, [images])
    if path == "plain":
        return network.train()
    expand(network.train(), k=arguments.k, method=arguments.method, execution=path)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.2, 0.4)
    return network


def serve(connection: Connection, name: str, path: str, arguments: argparse.Namespace) -> None:
    """In a process of its own: send what is kept for backward, then the processor time of a step at every request."""
    torch.set_num_threads(arguments.threads)
    images = torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size)
    network, labels = network_of(name, path, images, arguments), torch.arange(arguments.batch)
    connection.send(saved(network, images))
    while connection.recv():
        start = time.process_time_ns()
        step(network, images, labels)
        connection.send((time.process_time_ns() - start) / NANOSECONDS)


def ask(connection: Connection) -> float:
    connection.send(True)
    return connection.recv()


def measure(name: str, arguments: argparse.Namespace) -> None:
    processes, ends = multiprocessing.get_context("spawn"), {}
    for path in ("plain", *arguments.paths):
        ends[path], end = processes.Pipe()
        processes.Process(target=serve, args=(end, name, path, arguments), daemon=True).start()
    memory = {path: end.recv() for path, end in ends.items()}
    calls = {path: TimedCall(partial(ask, end), timer=partial(ask, end)) for path, end in ends.items()}
    samples = interleave(calls, Protocol(rounds=arguments.rounds, burst=1, warmup=3, untimed=0), lambda _: None)
    for end in ends.values():
        end.send(False)
    print(f"{name}, k = {arguments.k}, {arguments.batch} x {arguments.image_size} px, {arguments.method}")
    for path in calls:
        pairs = ", ".join(f"{samples.ratio(path, base).value:.2f} {base}" for base in calls)
        time_taken, (grows, constant) = samples.median(path).value, memory[path]
        print(f"  {path:<9} {time_taken:>7.0f} ms, {grows:>6.0f} + {constant:>5.0f} MiB; times: {pairs}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["torchvision:mobilenet_v2", "torchvision:resnet18"])
    parser.add_argument("--method", default="mobileone")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paths", nargs="+", default=["branches", "folded", "auto"])
    parser.add_argument("--by-block", action="store_true", help="each block alone")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.networks:
        (measure_blocks if arguments.by_block else measure)(name, arguments)


if __name__ == "__main__":
    main()
