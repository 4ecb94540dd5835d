"""Expanded networks train where others do: Lightning, DDP, EMA, channels-last, AMP; their deployed form compiles."""

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from expanded_networks import Residual, difference
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mobileone_core import expand, fold

CARD = Path(__file__).parents[3] / "mobileone_core" / "model" / "expand" / "README.md"


def train(network, steps=2, *, images=None, autocast=False):
    optimizer = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = network(torch.randn(4, 3, 12, 12) if images is None else images).float().square().mean()
        loss.backward()
        optimizer.step()
    return network


def folds(network, tolerance=1e-4):
    x = torch.randn(2, 3, 12, 12)
    return difference(fold(network.eval())(x), network(x)) < tolerance


@pytest.mark.parametrize("execution", ["branches", "folded", "auto"])
@pytest.mark.parametrize("how", ["autocast", "channels_last", "plain"])
def test_layouts_and_precisions(how, execution):
    torch.manual_seed(0)
    network = expand(Residual(), k=2, execution=execution).train()
    images = torch.randn(4, 3, 12, 12)
    if how == "channels_last":
        network, images = (value.to(memory_format=torch.channels_last) for value in (network, images))
    assert folds(train(network, images=images, autocast=how == "autocast"))


def test_averaged_weights_fold():
    torch.manual_seed(0)
    network = expand(Residual(), k=2).train()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(3):
        averaged.update_parameters(train(network, 1))
    assert folds(averaged.module)


@pytest.mark.slow
def test_the_deployed_form_compiles():
    torch.manual_seed(0)
    network = train(expand(Residual(), k=2).train()).eval()
    folded, x = fold(network), torch.randn(2, 3, 12, 12)
    compiled = torch.compile(copy.deepcopy(folded), backend="aot_eager")
    assert difference(compiled(x), folded(x)) < 1e-5


@pytest.mark.filterwarnings("ignore")  # of a few batches, few workers and a cluster's commands
def test_lightning():
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = expand(Residual(), k=2)

        def training_step(self, batch):
            return self.network(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)

    torch.manual_seed(0)
    module = Module()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=2, enable_model_summary=False, barebones=False, **options)
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 3, 12, 12), batch_size=4))
    assert folds(module.network)


def one_rank(rank, directory):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    network = DistributedDataParallel(expand(Residual(), k=2, execution="folded").train())
    torch.manual_seed(rank)
    train(network)
    weights = torch.cat([value.detach().flatten() for value in network.parameters()])
    other = weights.clone()
    dist.broadcast(other, 0)
    assert torch.equal(weights, other)
    assert folds(network.module)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_of_ddp(tmp_path):
    mp.spawn(one_rank, (str(tmp_path),), nprocs=2)


def test_the_example_of_the_card(capsys):
    pytest.importorskip("torchvision")
    example = re.findall(r"```python\n(.*?)```", CARD.read_text(), re.DOTALL)[1]
    torch.manual_seed(0)
    exec(compile(example, str(CARD), "exec"), {})
    assert capsys.readouterr().out == "56 taken, 0 left\n"


def test_a_network_without_convolutions_is_left():
    assert isinstance(expand(nn.Sequential(nn.Linear(2, 2))), nn.Sequential)
    untraceable = type("Untraceable", (nn.Linear,), {"forward": lambda _, x: x if x.sum() > 0 else -x})
    assert isinstance(expand(untraceable(2, 2)), nn.Linear)
