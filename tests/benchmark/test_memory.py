"""Peak and saved memory against closed forms of graphs small enough to count by hand. Four bytes a number."""

import weakref

import pytest
import torch
from torch import nn

from mobileone_core.benchmark.calls import peak_bytes, saved_bytes

CPU = torch.device("cpu")
NUMBERS = 1 << 16
IMAGES = torch.randn(4, 3, 8, 8)
ACTIVATION = 4 * 3 * 8 * 8 * 4  # bytes of one map


def test_what_is_alive_at_once_counts_not_what_was_allocated():
    x = torch.ones(NUMBERS)

    def one_after_the_other():
        for _ in range(5):
            x.neg()

    def at_once():
        return [x.neg() for _ in range(5)]

    assert peak_bytes(one_after_the_other, CPU) == 4 * NUMBERS
    assert peak_bytes(at_once, CPU) == 5 * 4 * NUMBERS


def test_nothing_allocated_is_nothing():
    x = torch.ones(NUMBERS)
    assert peak_bytes(x.neg_, CPU) == 0


def test_what_a_call_releases_of_before_is_no_credit():
    held = [torch.ones(NUMBERS)]

    def swap():
        held.pop()
        held.append(torch.ones(NUMBERS // 2))

    assert peak_bytes(swap, CPU) == 4 * NUMBERS // 2


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_chain_keeps_every_output_for_its_backward_and_two_without(depth):
    """exp saves its output: depth tensors; without a graph only the input and output of one layer live."""
    x = torch.zeros(NUMBERS, requires_grad=True)

    def chain():
        y = x
        for _ in range(depth):
            y = y.exp()
        return y

    assert peak_bytes(chain, CPU) == depth * 4 * NUMBERS
    with torch.inference_mode():
        assert peak_bytes(chain, CPU) == min(depth, 2) * 4 * NUMBERS


def test_a_backward_counts_the_gradient_of_its_leaf():
    """y = exp(x), then its gradient: the saved y, the incoming gradient given from outside, the outgoing one."""
    x = torch.zeros(NUMBERS, requires_grad=True)
    gradient = torch.ones(NUMBERS)

    def step():
        x.exp().backward(gradient)
        x.grad = None

    assert peak_bytes(step, CPU) == 2 * 4 * NUMBERS


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_convolution_holds_its_output_and_what_its_kernel_unfolds(kernel):
    """Torch's own kernel writes every patch out: batch x positions x channels x taps, besides the output."""
    conv, x = nn.Conv2d(8, 16, kernel, padding=kernel // 2), torch.ones(2, 8, 32, 32)
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        assert peak_bytes(lambda: conv(x), CPU) == 4 * (2 * 32 * 32) * (8 * kernel**2 + 16)


def test_standard_error_stays_clean(capfd):
    peak_bytes(lambda: torch.ones(3), CPU)
    assert capfd.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_the_same():
    """Torch's CUDA allocator rounds to 512 bytes, of which these are multiples."""
    x = torch.ones(NUMBERS, device="cuda")
    assert peak_bytes(lambda: [x.neg() for _ in range(5)], x.device) == 5 * 4 * NUMBERS


def test_a_convolution_keeps_its_input_and_no_parameter():
    network = nn.Conv2d(3, 3, 3, padding=1)
    assert saved_bytes(lambda: network(IMAGES), network.parameters()) == ACTIVATION
    assert saved_bytes(lambda: network(IMAGES), []) == ACTIVATION + network.weight.untyped_storage().nbytes()


def test_a_storage_counts_once_whatever_looks_at_it():
    network = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
    parameters = list(network.parameters())
    assert saved_bytes(lambda: sum(part(IMAGES) for part in network), parameters) == ACTIVATION
    assert saved_bytes(lambda: network[0](IMAGES[:2]) + network[1](IMAGES[2:]), parameters) == ACTIVATION


def test_a_chain_keeps_every_map():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    assert saved_bytes(lambda: network(IMAGES), network.parameters()) == 5 * ACTIVATION


def test_each_branch_with_a_norm_keeps_a_map_of_its_own():
    def kept(branches):
        network = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(branches))
        return saved_bytes(lambda: sum(part(IMAGES) for part in network), network.parameters())

    per_branch = kept(2) - kept(1)
    assert ACTIVATION <= per_branch < ACTIVATION + 100  # and statistics a channel
    assert kept(4) - kept(1) == 3 * per_branch


def test_nothing_is_kept_without_gradients():
    network = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        assert saved_bytes(lambda: network(IMAGES), network.parameters()) == 0


def test_nothing_is_left_behind():
    """ReLU keeps its own output: held as it is, a node would hold itself."""
    outputs = []

    def forward():
        output = nn.functional.relu(IMAGES.clone().requires_grad_() * 2)
        outputs.append(weakref.ref(output))

    assert saved_bytes(forward, []) == ACTIVATION
    assert outputs[0]() is None
