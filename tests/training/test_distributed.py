"""Several processes train one cell: what they compute together, and that none outlives another."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import rank_fakes
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.nn import functional as F

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.training import distributed
from mobileone_core.training.distributed import GroupMember, other_ranks, process_group
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.module import CellModule
from mobileone_core.training.observer import NullObserver, TrainingFailed, TrainingStopped
from mobileone_core.training.optimizer import learning_rate, weight_decay
from mobileone_core.training.run import CellJob, train_rank

TWO = Execution("cpu", processes=2, blocks="branches")
CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


def loss_gradients(network, images, labels):
    loss = F.cross_entropy(network(images), labels, label_smoothing=0.1)
    return torch.autograd.grad(loss, list(network.parameters()))


def averaged_halves(cell):
    """Plain PyTorch in one process: each step's mean gradient of the two halves of its batch, and that of the whole."""
    recipe, halves, wholes = cell.recipe, [], []
    torch.manual_seed(derive_seed(cell.seed, "init"))
    network = build_model(cell.model, 10)
    parameters = list(network.parameters())
    groups = [{"params": [p for p in parameters if (p.ndim > 1) is large]} for large in (True, False)]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True, fused=True)
    batches = open_loaders(cell.data, None, cell.seed, LoaderOptions(recipe.batch_size, "crop")).train
    for epoch in range(recipe.epochs):
        batches.set_epoch(epoch, epoch / recipe.epochs)
        for images, labels in batches:
            progress = len(halves) / (recipe.epochs * len(batches))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, progress)
            optimizer.param_groups[0]["weight_decay"] = weight_decay(recipe, progress)
            wholes.append(loss_gradients(network, images, labels))
            pairs = zip(*(loss_gradients(network, images[i::2], labels[i::2]) for i in (0, 1)), strict=True)
            halves.append([(one + other) / 2 for one, other in pairs])
            for parameter, gradient in zip(parameters, halves[-1], strict=True):
                parameter.grad = gradient
            optimizer.step()
    return halves, wholes


def distance(gradients, others):
    """The largest difference of any gradient in any step, relative to the largest entry of its tensor."""
    pairs = [pair for step in zip(gradients, others, strict=True) for pair in zip(*step, strict=True)]
    return max(((one - other).abs().max() / other.abs().max().clamp(min=1e-3)).item() for one, other in pairs)


def test_every_step_has_the_averaged_gradients_of_the_two_half_batches(train, cell, monkeypatch):
    gradients = []

    def note(module, optimizer):
        gradients.append([parameter.grad.clone() for parameter in module.network.parameters()])

    monkeypatch.setattr(CellModule, "on_before_optimizer_step", note, raising=False)
    train(execution=TWO)
    halves, wholes = averaged_halves(cell)
    assert len(gradients) == 8
    assert distance(gradients, halves) < 1e-6  # 0 where it was tried
    assert distance(gradients, wholes) > 1e-2  # BatchNorm sees halves


def test_all_processes_end_with_the_same_numbers_over_every_image_once(cell, tmp_path):
    work = CellJob(cell, TWO, None, tmp_path, None, {})
    with other_ranks(2, CPU, tmp_path, rank_fakes.train_and_tell, (work,)):
        module = train_rank(0, CPU, work)
    results, state = torch.load(tmp_path / "1.pt")
    assert results == module.results
    mine = module.state_dict()
    parameters = dict(module.named_parameters())
    assert all(
        torch.equal(state[name], mine[name])
        for name in parameters.keys() | module.final.state_dict().keys() & state.keys()
    )
    loaders = open_loaders(cell.data, None, cell.seed, LoaderOptions(256, "none"))
    for stage, batches in (("val", loaders.val), ("test", loaders.test)):
        with torch.no_grad():
            images, labels = (torch.cat(items) for items in zip(*batches, strict=True))
            logits = module.final.eval()(images)
        hits = (logits.argmax(1) == labels).double().mean().item()
        assert results[f"{stage}/top1"] == pytest.approx(hits, abs=1e-6)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1).item()
        assert results[f"{stage}/loss"] == pytest.approx(loss, rel=1e-5)
    assert results["test/images"] == len(labels)


@pytest.mark.parametrize("processes", [2, 3])
def test_an_interrupted_cell_ends_as_an_uninterrupted_one(train, memory, processes):
    changes = {"execution": Execution("cpu", processes=processes), "batch_size": 120, "epochs": 3}
    whole = train("whole", **changes)
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=13), **changes)  # 10 steps an epoch
    second = memory()
    resumed = train(observer=second, **changes)
    assert [record.epoch for record in second.resumed_with] == [1]
    timeless = [name for name in whole.metrics if not name.startswith("time/")]
    assert [whole.metrics[name] for name in timeless] == [resumed.metrics[name] for name in timeless]
    kept, again = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


class Witness(NullObserver):
    """In the third batch does something to the last of the other processes."""

    def __init__(self, act):
        self.act, self.batches, self.others = act, 0, []

    def batch_finished(self, *_):
        self.batches += 1
        if self.batches == 3:
            self.others = multiprocessing.active_children()
            self.act(max(child.pid for child in self.others))


def stop(_):
    raise TrainingStopped


def own_error(_):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda pid: os.kill(pid, signal.SIGKILL), pytest.raises(ChildProcessError, match=r"rank \d died \(SIGKILL\)")),
        (lambda pid: os.kill(pid, signal.SIGTERM), pytest.raises(ChildProcessError, match=r"rank \d: SIGTERM")),
        (stop, pytest.raises(TrainingStopped)),
        (own_error, pytest.raises(RuntimeError, match="out of memory")),
    ],
    ids=["SIGKILL", "SIGTERM", "stop", "error of rank 0"],
)
@pytest.mark.timeout(120)
def test_no_process_outlives_another(train, tmp_path, act, error):
    observer = Witness(act)
    with error:
        train(observer=observer, execution=TWO)
    assert len(observer.others) == 1
    assert multiprocessing.active_children() == []
    assert not any(psutil.pid_exists(child.pid) for child in observer.others)
    assert {path.name for path in (tmp_path / "cell").iterdir()} <= {"last.ckpt"}


@pytest.mark.parametrize(
    ("name", "error"), [("input", InputError), ("loss", TrainingFailed), ("key", ChildProcessError)]
)
@pytest.mark.timeout(120)
def test_what_went_wrong_elsewhere_is_said_here(tmp_path, name, error):
    """The other two processes see no more than a broken connection."""
    others = other_ranks(3, CPU, tmp_path, rank_fakes.fail, (name,))
    with pytest.raises(error, match=str(rank_fakes.ERRORS[name])), others:
        dist.barrier()
    assert multiprocessing.active_children() == []


def test_so_is_what_went_wrong_before_all_connections_stood(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def broken(group, device):
        with process_group(group, device):
            raise RuntimeError("Connection closed by peer")
        yield

    monkeypatch.setattr(distributed, "process_group", broken)
    with pytest.raises(InputError, match="data_root"), other_ranks(2, CPU, tmp_path, rank_fakes.fail, ("input",)):
        pass


def test_after_a_meeting_that_failed_there_can_be_another(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "GROUP_TIMEOUT", timedelta(seconds=0.5))
    with pytest.raises(RuntimeError, match="timeout"), process_group(GroupMember(0, 2, tmp_path / "nobody comes"), CPU):
        pass
    monkeypatch.setattr(distributed, "GROUP_TIMEOUT", timedelta(seconds=60))
    with other_ranks(2, CPU, tmp_path, rank_fakes.meet, ()):
        dist.barrier()


def test_others_end_with_a_killed_rank_0(tmp_path):
    command = [sys.executable, str(Path(rank_fakes.__file__)), str(tmp_path / "cell")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rank_0:
        try:
            others = [psutil.Process(int(pid)) for pid in rank_0.stdout.readline().split()]
        finally:
            rank_0.kill()
    assert len(others) == 1
    assert psutil.wait_procs(others, timeout=60)[1] == []


def test_what_cannot_be_shared_is_refused(train, cell):
    with pytest.raises(InputError, match="batch_size: 255 is not allowed; a multiple of processes, which is 2"):
        train(execution=TWO, batch_size=255)
    with pytest.raises(InputError, match="processes: 0 is not allowed"):
        Execution(processes=0)


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert resolve_device(Execution("cuda:2", processes=2), "32") == torch.device("cuda", 2)
    with pytest.raises(InputError, match="processes: 2 is not allowed; one per GPU, and this machine has 4"):
        resolve_device(Execution("cuda:3", processes=2), "32")
