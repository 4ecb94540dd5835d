"""Every network of table 9 and every newer one: its published size, folding, and activations that are ordinary."""

import csv
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from activation_range import require_ordinary

from mobileone_core.errors import InputError
from mobileone_core.latency.cell import LatencyCell, NamedNetwork
from mobileone_core.latency.networks import build_forms, build_images, count_cost, folding_metrics
from mobileone_core.latency.runtimes import UnmeasuredError
from mobileone_core.latency.zoo import BETWEEN, GROUPS, MISSING, PEERS, TABLE_9, ZOO, chosen_networks, zoo_entry
from mobileone_core.model.cost import model_cost
from mobileone_core.model.spec import ModelSpec

PUBLISHED_SIZE = 224
MACS_TOLERANCE = 0.07  # published counts differ in what they count
PARAMS_TOLERANCE = 0.05
# parameters and multiply-adds in millions where the library's differ from the published ones; notes say so
BUILT_OTHERWISE = {"mobilenet_v2_x1_4": (6.1, 585), "convit_tiny": (5.7, 1250)}
BUILT = [name for name, entry in ZOO.items() if entry.library]
FOLDED = ("fastvit", "repvit", "shvit", "ghostnetv3")  # families of PEERS with a form for deployment
LIGHT = ("mobileone_tiny", "mobileone_s0", "mobilenet_v3_small", "shufflenet_v2_x1_0", "repvit_m0_9", "resnet18")
light = pytest.mark.quick_cases(*LIGHT)


def published(name):
    text = (files("mobileone_core.reporting") / "published" / f"{name}.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def table_9():
    return {row["model"]: row for row in published("table9_imagenet")}


def cell_of(name, size=64):
    return LatencyCell(NamedNetwork(name), image_size=size)


def test_all_rows_of_table_9_are_here_once():
    assert sorted(ZOO[name].title for name in TABLE_9) == sorted(table_9())
    others = [entry.title for name, entry in ZOO.items() if name not in {*TABLE_9, *PEERS}]
    assert others == ["MobileOne tiny (ours)", "MobileOne small (ours)"]


def test_what_no_library_has_is_a_marked_gap():
    gaps = [name for name, entry in ZOO.items() if not entry.library]
    assert gaps == ["mobilenext_x1_0", "mobilenext_x1_4", "mobileformer_52", "mobileformer_96"]
    for name in gaps:
        with pytest.raises(InputError, match=f"{ZOO[name].title}: {MISSING}"):
            build_forms(cell_of(name))[1]


def counts_of(cell):
    """Counts of a network without numbers, on the meta device; ours has numbers, which folding reads."""
    images = build_images(cell)
    if ZOO[cell.network.model].library == "mobileone":
        return count_cost(build_forms(cell)[1], images)
    with torch.device("meta"):
        return count_cost(build_forms(cell)[1], images.to("meta"))


@light
@pytest.mark.parametrize("name", [name for name in BUILT if name in TABLE_9])
def test_counts_are_the_published_ones(name, monkeypatch):
    monkeypatch.setattr("mobileone_core.latency.networks.calibrate", lambda network, _: network.eval())
    entry, row = ZOO[name], table_9()[ZOO[name].title]
    params, macs = counts_of(cell_of(name, PUBLISHED_SIZE))
    built_params, built_macs = BUILT_OTHERWISE.get(name, (float(row["params_m"]), float(row["flops_m"])))
    assert (name in BUILT_OTHERWISE) <= bool(entry.note)
    assert params / 1e6 == pytest.approx(built_params, rel=PARAMS_TOLERANCE, abs=0.05)
    if entry.note == BETWEEN:
        assert macs < 1e6 * float(row["flops_m"]) < counts_of(cell_of(name, 256))[1]
    else:
        assert macs / 1e6 == pytest.approx(built_macs, rel=MACS_TOLERANCE)


@light
@pytest.mark.parametrize("name", PEERS)
def test_newer_networks_have_the_published_parameters_before_folding_and_equal_outputs_after(name):
    row = next(row for row in (*published("peers"), *published("peers_resnet")) if row["timm"] == name)
    unfolded, network = build_forms(cell_of(name))
    changed = folding_metrics(unfolded, network, build_images(cell_of(name)))
    assert bool(changed) == name.startswith(FOLDED)
    params = sum(parameter.numel() for parameter in unfolded.parameters())
    assert params / 1e6 == pytest.approx(float(row["params_m"]), abs=0.06)
    if changed:
        assert changed["unfolded/params"] == params > sum(parameter.numel() for parameter in network.parameters())
        assert changed["unfolded/difference"] < 1e-4


def test_a_folding_that_changes_the_outputs_is_no_measurement():
    unfolded, network = build_forms(cell_of("mobileone_tiny", 32))
    with torch.no_grad():
        next(network.parameters()).mul_(1.1)
    with pytest.raises(UnmeasuredError, match="folding changed the outputs by"):
        folding_metrics(unfolded, network, build_images(cell_of("mobileone_tiny", 32)))


def test_networks_of_both_libraries_have_no_need_of_an_entry():
    for name in ("timm:test_vit", "torchvision:squeezenet1_1"):  # the first is built for one image size
        assert build_forms(cell_of(name))[1](build_images(cell_of(name))).shape == (1, 1000)
    assert zoo_entry("timm:resnet18.a1_in1k").title == "timm:resnet18.a1_in1k"
    with pytest.raises(InputError, match="model: 'timm:nope' is not allowed; a network that timm lists"):
        build_forms(cell_of("timm:nope"))[1]
    with pytest.raises(UnmeasuredError, match="torchvision:squeezenet1_1 at 8 px: "):
        build_forms(cell_of("torchvision:squeezenet1_1", 8))[1]


def test_groups_and_names_choose_each_network_once_after_the_reference():
    assert chosen_networks(("table9",), "mobileone_s0") == TABLE_9
    assert chosen_networks(("timm:a", "peers", "timm:a"), "mobileone_s0")[:2] == ("mobileone_s0", "timm:a")
    assert set(chosen_networks(("peers",), "mobileone_s0")) == set(GROUPS["peers"])


def test_a_batch_is_part_of_the_cell_and_the_usual_one_of_no_key():
    cell = LatencyCell(NamedNetwork("mobileone_tiny"), image_size=32)
    assert "batch_size" not in cell.to_dict()
    batched = replace(cell, batch_size=3)
    assert LatencyCell.from_dict(batched.to_dict()) == batched
    assert build_images(batched).shape == (3, 3, 32, 32)
    network = build_forms(cell)[1]
    assert count_cost(network, build_images(batched)) == count_cost(network, build_images(cell))


@pytest.mark.slow
@light
@pytest.mark.parametrize("name", BUILT)
def test_activations_are_ordinary_numbers_and_the_same_each_time(name, monkeypatch):
    monkeypatch.setattr("mobileone_core.latency.networks.LARGEST_BATCH", 8)  # images are enough
    network, images = build_forms(cell_of(name))[1], build_images(cell_of(name))
    assert not any(module.training for module in network.modules())
    require_ordinary(network, images)
    with torch.no_grad():
        assert torch.equal(network(images), build_forms(cell_of(name))[1](images))


@pytest.mark.quick_cases("s0", "tiny")
@pytest.mark.parametrize("variant", ["s0", "s4", "tiny"])
@pytest.mark.parametrize("form", ["train", "deployed"])
def test_mobileone_is_counted_exactly(variant, form):
    cell = replace(cell_of(f"mobileone_{variant}"), network=NamedNetwork(f"mobileone_{variant}", form))
    cost = getattr(model_cost(variant, 64), form)
    assert count_cost(build_forms(cell)[1], build_images(cell)) == (cost.params, cost.macs)


def test_k_and_specs_are_taken():
    named = LatencyCell(NamedNetwork("mobileone_tiny", "train", k=2), image_size=32)
    params, _ = count_cost(build_forms(named)[1], build_images(named))
    assert params == model_cost(ModelSpec.preset("tiny", k=2)).train.params
    spec = LatencyCell(ModelSpec.preset("tiny", in_channels=1), image_size=32)
    assert build_forms(spec)[1](build_images(spec)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mobilenet_v2", {"form": "train"}, "form: 'train' is not allowed; mobilenet_v2 is timed as deployed"),
        ("mobilenet_v2", {"k": 2}, "k: 2 is not allowed; mobilenet_v2 has no MobileOne blocks"),
        ("vgg", {}, "model: 'vgg' is not allowed; one of mobileone_s0"),
    ],
)
def test_what_is_not_there_is_refused_before_it_is_built(name, changes, words):
    with pytest.raises(InputError, match=words):
        NamedNetwork(name, **changes)
